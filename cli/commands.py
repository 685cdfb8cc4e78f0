"""What the smaller commands do, on the database that the environment or the data folder names."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cli.data_folder import DataFolder
from cli.database import Databases, databases_from, databases_of, ensure_database
from cli.postgres import Cluster, serve
from cli.programs import StartError
from cli.topology import free_port


class Wanted(NamedTuple):
    """How many of each `shop seed` is to add."""

    products: int = 0
    users: int = 0
    carts: int = 0
    orders: int = 0


async def migrate(data: Path, only: tuple[str, ...]) -> None:
    """Apply what is pending, and print it."""
    from cli import migrate as migrations

    applied: list[migrations.Migration] = []

    def heard(step: migrations.Migration) -> None:
        applied.append(step)
        typer.echo(f"applied {step}")

    async with open_databases(data) as databases:
        await migrations.migrate(databases, only, heard)
    if not applied:
        typer.echo("Nothing to do: the database is up to date.")


async def check_migrations(data: Path, only: tuple[str, ...]) -> bool:
    """Print what is pending; whether anything is."""
    from cli import migrate as migrations

    async with open_databases(data) as databases:
        pending = await migrations.pending(databases, only)
    for step in pending:
        typer.echo(f"pending {step}")
    if not pending:
        typer.echo("The database is up to date.")
    return bool(pending)


async def write_migration(data: Path, only: tuple[str, ...], title: str) -> None:
    """Write a service's next migration, from what its tables have and the database has not."""
    from cli import migrate as migrations

    if len(only) != 1:
        raise StartError("Say whose migration it is: --service NAME.")
    async with open_databases(data) as databases:
        await migrations.migrate(databases, only)
        path = await migrations.write(databases, only[0], title)
    typer.echo(f"Wrote {path}: read it before you run it.")


async def seed(data: Path, wanted: Wanted, seed: str = "") -> None:
    """Load made-up data, with bars that show how far it is; without a `seed`, others each time."""
    from cli.seed_shop import load

    async with open_databases(data) as databases:
        with progress() as bar:
            await load(databases, wanted, seed or secrets.token_hex(3), bar)


async def verify(data: Path) -> bool:
    """Look at all invariants and print them; whether they hold."""
    from cli import verify as verification

    async with open_databases(data) as databases:
        findings = await verification.verify(databases)
    return verification.show(findings, Console(highlight=False, soft_wrap=True))


async def top(data: Path, at: list[str], seconds: float, *, once: bool, as_json: bool) -> bool:
    """Show what the services do; whether all of them answer."""
    from cli import top

    places = top.processes(data, at)
    if once:
        return not (await top.once(places, seconds, as_json=as_json)).away
    with suppress(asyncio.CancelledError):  # Ctrl-C
        await top.watch(places, seconds, Console(highlight=False))
    return True


async def doctor(data: Path) -> bool:
    """Examine everything and print what was found; whether nothing is ill."""
    from cli import doctor

    return doctor.show(await doctor.examine(data), Console(highlight=False, soft_wrap=True))


async def back_up(data: Path, folder: Path, jobs: int) -> None:
    """Back up the databases, and of the data folder what belongs to them."""
    from cli.backup import back_up

    keep = None if databases_from(os.environ) else DataFolder(data)
    began = time.monotonic()
    async with open_databases(data) as databases:
        await back_up(databases, folder, jobs=jobs, say=typer.echo, keep=keep)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())  # noqa: ASYNC240
    typer.echo(f"{folder}: {size / 1e6:.1f} MB in {time.monotonic() - began:.1f} s")
    if keep is None:
        typer.echo("Secrets are not in it: keep SHOP_SERVICE_SECRET and the signing keys too.")


async def restore(data: Path, folder: Path, jobs: int, *, replace: bool) -> bool:
    """Restore a backup, and look whether the data hold what they should; whether they do."""
    from cli import verify as verification
    from cli.restore import restore, restore_secrets

    with ExitStack() as stack:
        if not databases_from(os.environ):
            keep = DataFolder(data)
            stack.enter_context(keep.lock())  # nobody else runs Postgres there meanwhile
        began = time.monotonic()
        async with open_databases(data, locked=True) as databases:
            manifest = await restore(databases, folder, jobs=jobs, replace=replace, say=typer.echo)
            if not databases_from(os.environ) and restore_secrets(folder, keep):
                typer.echo("keys and secrets: as they were")
            typer.echo(f"restored in {time.monotonic() - began:.1f} s")
            # What was due is due again, until the services run: as of then, every rule has to hold.
            taken = datetime.fromisoformat(manifest.taken)
            findings = await verification.verify(databases, at=taken)
    return verification.show(findings, Console(highlight=False, soft_wrap=True))


async def create_admin(data: Path, email: str, password: str | None) -> None:
    """Make somebody an administrator; asks for a password, or makes one, where one is needed."""
    from cli import accounts

    async with open_databases(data) as databases:
        url = databases.services["users"]
        if await accounts.find_user(url, email) is not None:
            await accounts.promote(url, email)
            typer.echo(f"{email} is an administrator now; the password is the same as before.")
            return
        chosen = password or (ask_password() if sys.stdin.isatty() else secrets.token_urlsafe(12))
        await accounts.create_admin(url, email, chosen)
    typer.echo(f"Made the administrator {email}.")
    if not password and not sys.stdin.isatty():
        typer.echo(f"The password is {chosen}")


async def token(data: Path, email: str) -> None:
    """Print an access token."""
    from cli import accounts

    if "production" in (os.environ.get("SHOP_ENV"), os.environ.get("SHOP_USERS_ENV")):
        raise StartError("Tokens are made by signing in; this command is for development only.")
    keys = os.environ.get("SHOP_USERS_SIGNING_KEYS") or DataFolder(data).keys
    issuer = os.environ.get("SHOP_ISSUER", "shop")
    async with open_databases(data) as databases:
        url = databases.services["users"]
        typer.echo(await accounts.access_token(url, email, Path(keys), issuer))


def ask_password() -> str:
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )


@asynccontextmanager
async def open_databases(data: Path, *, locked: bool = False) -> AsyncIterator[Databases]:
    """The databases that the environment names, else the data folder's.

    Its Postgres may be running under `shop up`; otherwise it runs for as long as it is needed here.
    `locked` says that the caller holds the folder already.
    """
    if named := databases_from(os.environ):
        yield named
        return
    folder = DataFolder(data)
    running = Cluster(folder.postgres, folder.postgres_password, port=0).found_running()
    if running is not None:
        yield databases_of(running.url())
        return
    with nullcontext() if locked else folder.lock():
        folder.prepare()
        cluster = Cluster(folder.postgres, folder.postgres_password, free_port())
        cluster.create()
        with serve(cluster, log=folder.path / "postgres.log"):
            await ensure_database(cluster.url("postgres"), "shop")
            yield databases_of(cluster.url())
