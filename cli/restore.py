"""`shop restore`: brings back what `shop backup` has kept, and makes sure that it is the same.

Where the data go may be another Postgres, of a newer version, with other users, and services whose
schemas are in other databases than before: only what is in the schemas is restored, and who may do
what is set up anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import asyncpg

from cli import migrate
from cli.backup_files import SECRETS, SESSION, Contents, Dump, Manifest, contents, run_tool
from cli.data_folder import DataFolder
from cli.database import Databases, Place, connect, prepare, quoted
from cli.programs import StartError

Say = Callable[[str], None]


async def restore(
    databases: Databases, backup: Path, *, jobs: int, replace: bool, say: Say
) -> Manifest:
    """Fill empty schemas, or, with `replace`, put what was kept in the place of what is there.

    Migrations that came after the backup are applied at the end. Raises StartError.
    """
    manifest = Manifest.read(backup)
    for place in databases.places():
        connection = await connect(place.url, application_name="shop restore", **SESSION)
        try:
            await _refuse_if_in_use(connection)
            await _make_room(connection, place, replace=replace)
            for dump in manifest.dumps:
                if services := [name for name in dump.services if name in place.services]:
                    await _fill(connection, place, backup, dump, services, jobs)
                    rows = sum(
                        held.rows for name, held in dump.tables.items() if _of(name, services)
                    )
                    say(f"{', '.join(services)}: {rows} rows, all as they were")
            for service in place.services:
                await migrate.protect_history(connection, place, service)
        finally:
            await connection.close()
    await migrate.migrate(databases, applied=lambda step: say(f"applied {step}"))
    return manifest


def restore_secrets(backup: Path, data: DataFolder) -> bool:
    """Put back what a backup of a data folder has kept beside the data; whether it has."""
    kept = backup / SECRETS
    if not kept.exists():
        return False
    shutil.rmtree(data.keys, ignore_errors=True)
    shutil.copytree(kept / "keys", data.keys)
    data.keys.chmod(0o700)
    for path in (data.service_secret, data.stripe_webhook_secret, data.admin, data.stripe):
        if (kept / path.name).exists():
            shutil.copy2(kept / path.name, path)
            path.chmod(0o600)
    return True


async def _refuse_if_in_use(connection: asyncpg.Connection) -> None:
    names = await connection.fetch(
        """
        SELECT DISTINCT application_name FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = ANY($1::text[])
        """,
        [f"shop {name}" for name in migrate.migrated_services()],
    )
    if names:
        who = ", ".join(row[0].removeprefix("shop ") for row in names)
        raise StartError(f"These services use the database: {who}. Stop them first.")


async def _make_room(connection: asyncpg.Connection, place: Place, *, replace: bool) -> None:
    """See to it that the schemas are there and empty, and the roles as for a new shop."""
    held = await connection.fetch(
        """
        SELECT DISTINCT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY($1::text[])
        """,
        list(place.services),
    )
    if held and not replace:
        names = ", ".join(sorted(row[0] for row in held))
        raise StartError(
            f"The database has data of {names} already. Take an empty one, or --replace them."
        )
    async with connection.transaction():
        for row in held:
            await connection.execute(f"DROP SCHEMA {quoted(row[0])} CASCADE")
        await prepare(connection, place)


async def _fill(
    connection: asyncpg.Connection,
    place: Place,
    backup: Path,
    dump: Dump,
    services: list[str],
    jobs: int,
) -> None:
    server = connection.get_server_version().major
    await run_tool(
        *("pg_restore", place.url, max(server, dump.postgres)),
        *("--no-owner", "--no-privileges", "--exit-on-error", f"--jobs={jobs}"),
        *(f"--schema={service}" for service in services),
        str(backup / dump.folder),
    )
    wanted = {name: held for name, held in dump.tables.items() if _of(name, services)}
    if different := differences(wanted, await contents(connection, services)):
        raise StartError("What was restored is not what was kept: " + "; ".join(different))


def _of(table: str, services: list[str]) -> bool:
    return table.partition(".")[0].strip('"') in services


def differences(wanted: dict[str, Contents], found: dict[str, Contents]) -> list[str]:
    """A remark on each table that does not hold what it should."""
    return [
        f"{table} has {found[table].rows} rows of {held.rows}, or others"
        if table in found
        else f"{table} is missing"
        for table, held in wanted.items()
        if found.get(table) != held
    ]
