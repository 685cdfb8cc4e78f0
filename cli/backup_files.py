"""What a backup is: a folder with a dump of each database, and a manifest that tells what is in it.

manifest.json        when it was taken, by which version, and what every table holds
dump-1/, dump-2/ …   pg_dump's directory format, one for each database with schemas of the shop
secrets/             of a shop on one machine: signing keys, and what services share
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg

from cli.database import without_password
from cli.postgres_binaries import find_tool
from cli.programs import StartError

MANIFEST = "manifest.json"
SECRETS = "secrets"
FORMAT = 1
# Rows are compared as text, so what decides how they look is fixed.
SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}


@dataclass(frozen=True, slots=True)
class Contents:
    """What a table holds: how many rows, and the sum of their hashes, in whatever order."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Dump:
    """The dump of one database."""

    folder: str
    services: tuple[str, ...]
    postgres: int
    revisions: Mapping[str, str]
    tables: Mapping[str, Contents]
    files: Mapping[str, str]
    """SHA-256 of each file."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup tells of itself."""

    shop: str
    taken: str
    dumps: tuple[Dump, ...] = ()
    format: int = field(default=FORMAT)

    def write(self, folder: Path) -> None:
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises StartError for what is no backup, or one that has changed since it was taken."""
        try:
            told = json.loads((folder / MANIFEST).read_text())
        except (OSError, ValueError):
            raise StartError(f"{folder} is no backup: it has no {MANIFEST}.") from None
        if told["format"] != FORMAT:
            raise StartError(f"{folder} was made by another version of the shop: {told['shop']}.")
        dumps = tuple(
            Dump(
                **{
                    **one,
                    "services": tuple(one["services"]),
                    "tables": {name: Contents(**held) for name, held in one["tables"].items()},
                }
            )
            for one in told["dumps"]
        )
        for dump in dumps:
            if (found := file_hashes(folder / dump.folder)) != dump.files:
                names = sorted(name for name, _ in found.items() ^ dump.files.items())
                raise StartError(f"{folder / dump.folder} is damaged: {', '.join(names)}.")
        return cls(told["shop"], told["taken"], dumps)


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder; {} if there is none."""
    found = {}
    for path in sorted(folder.glob("*")):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


async def contents(connection: asyncpg.Connection, services: Iterable[str]) -> dict[str, Contents]:
    """What every table in the schemas of these services holds."""
    tables = await connection.fetch(
        """
        SELECT format('%I.%I', n.nspname, c.relname) AS name
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND n.nspname = ANY($1::text[]) ORDER BY 1
        """,
        list(services),
    )
    found = {}
    for (table,) in tables:
        (row,) = await connection.fetch(
            "SELECT count(*) AS rows, coalesce(sum("  # noqa: S608 - names from the catalogue
            "('x' || substr(md5(held::text), 1, 16))::bit(64)::bigint::numeric), 0)::text AS digest"
            f" FROM {table} held"
        )
        found[str(table)] = Contents(row["rows"], row["digest"])
    return found


async def run_tool(name: str, url: str, server: int, *arguments: str) -> None:
    """Run pg_dump or pg_restore on a database. Raises StartError with what it says.

    The password does not go where others see it: into the list of arguments.
    """
    tool = find_tool(name, at_least=server)
    password = unquote(urlsplit(url).password or "")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "SHOP_"))}
    done = await asyncio.to_thread(
        subprocess.run,
        [str(tool), *arguments, "--no-password", f"--dbname={without_password(url)}"],
        env=environment | {"PGPASSWORD": password},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StartError(f"{name} failed:\n{done.stderr.strip()}")
