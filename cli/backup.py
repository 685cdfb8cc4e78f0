"""`shop backup`: a consistent copy of the shop's databases, which knows what it holds.

Each database is dumped from one snapshot, and in the same snapshot the rows of every table are
counted and hashed, so that `shop restore` can tell whether it has brought back what there was.
Calls go on meanwhile; migrations wait.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from cli.backup_files import SECRETS, SESSION, Dump, Manifest, contents, file_hashes, run_tool
from cli.data_folder import DataFolder
from cli.database import Databases, Place, connect
from cli.programs import StartError

Say = Callable[[str], None]


async def back_up(
    databases: Databases, folder: Path, *, jobs: int, say: Say, keep: DataFolder | None = None
) -> Manifest:
    """Write a new folder; it appears when it is whole. `keep` has secrets that go with the data.

    Raises StartError.
    """
    if folder.exists():  # noqa: ASYNC240 - nobody else waits for this process
        raise StartError(f"{folder} exists: a backup goes into a folder of its own.")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700, parents=True)
    places = databases.places()
    if len(places) > 1:
        say(f"{len(places)} databases, each as it is at its own moment: see docs/operating.md")
    taken = datetime.now(UTC).isoformat(timespec="seconds")
    dumps = []
    for number, place in enumerate(places, start=1):
        dumps.append(await _dump(place, unfinished, f"dump-{number}", jobs))
        rows = sum(held.rows for held in dumps[-1].tables.values())
        say(f"{', '.join(place.services)}: {len(dumps[-1].tables)} tables, {rows} rows")
    if keep is not None:
        _keep_secrets(keep, unfinished / SECRETS)
    manifest = Manifest(importlib.metadata.version("shop"), taken, tuple(dumps))
    manifest.write(unfinished)
    unfinished.rename(folder)
    return manifest


async def _dump(place: Place, backup: Path, folder: str, jobs: int) -> Dump:
    connection = await connect(place.url, application_name="shop backup", **SESSION)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
            server = connection.get_server_version().major
            tables = await contents(connection, place.services)
            if not tables:
                raise StartError("There is nothing to back up: the database has no tables.")
            revisions = {
                service: await connection.fetchval(
                    f'SELECT version_num FROM "{service}".alembic_version'  # noqa: S608
                )
                for service in place.services
                if f"{service}.alembic_version" in tables
                or f'"{service}".alembic_version' in tables
            }
            await run_tool(
                *("pg_dump", place.url, server),
                "--format=directory",
                f"--file={backup / folder}",
                f"--jobs={jobs}",
                "--compress=gzip:1",
                f"--snapshot={snapshot}",
                *(f"--schema={service}" for service in place.services),
            )
    finally:
        await connection.close()
    files = file_hashes(backup / folder)
    return Dump(folder, place.services, server, revisions, tables, files)


def _keep_secrets(data: DataFolder, secrets: Path) -> None:
    """Without the signing keys everybody would have to sign in again; without the services' secret
    payments at Stripe would not be known for this shop's.
    """
    shutil.copytree(data.keys, secrets / "keys")
    for path in (data.service_secret, data.stripe_webhook_secret, data.admin):
        if path.exists():
            shutil.copy2(path, secrets / path.name)
    with (
        closing(sqlite3.connect(f"file:{data.stripe}?mode=ro", uri=True)) as sandbox,
        closing(sqlite3.connect(secrets / data.stripe.name)) as copy,
    ):
        sandbox.backup(copy)
