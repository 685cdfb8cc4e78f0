"""Brings the services' schemas up to date: one run at a time, each migration a transaction."""

from __future__ import annotations

import asyncio
import importlib
import io
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import migrations
from cli.database import Databases, Place, connect, prepare, quoted, user_of
from cli.programs import StartError
from cli.topology import ALL_SERVICES

FOLDER = Path(migrations.__file__).parent
# A migration that waits for a lock makes everybody behind it wait too: it gives up after half a
# second, lets them pass, and tries again.
SESSION = {
    "application_name": "shop migrate",
    "lock_timeout": "500ms",
    "statement_timeout": "30min",
    "idle_in_transaction_session_timeout": "1min",
}
LOCK_TRIES = 30
LOCK_PAUSE_SECONDS = 1.0
LOCK_NOT_AVAILABLE = "55P03"
ADVISORY_LOCK = 5_836_279_441  # any number that nobody else takes


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of one service's history."""

    service: str
    revision: str
    title: str

    def __str__(self) -> str:
        return f"{self.service} {self.revision}: {self.title}"


def migrated_services() -> tuple[str, ...]:
    """The services that have a history."""
    return tuple(name for name in ALL_SERVICES if (FOLDER / name / "versions").is_dir())


async def migrate(
    databases: Databases,
    only: Iterable[str] = ALL_SERVICES,
    applied: Callable[[Migration], None] = lambda _: None,
) -> None:
    """Prepare the databases and apply what is pending; `applied` hears of each step.

    Raises StartError.
    """
    for place in databases.places(only):
        connection = await connect(place.url, application_name="shop migrate")
        try:
            async with _alone(connection):
                await prepare(connection, place)
                for service in place.services:
                    if await _pending(connection, service):
                        await _upgrade(place, service, applied)
                        await protect_history(connection, place, service)
        finally:
            await connection.close()


async def pending(databases: Databases, only: Iterable[str] = ALL_SERVICES) -> list[Migration]:
    """What `migrate` would apply."""
    found = []
    for place in databases.places(only):
        connection = await connect(place.url, application_name="shop migrate")
        try:
            for service in place.services:
                found += await _pending(connection, service)
        finally:
            await connection.close()
    return found


def render(service: str, revision: str) -> str:
    """The SQL of one migration, for a linter."""
    step = _scripts(service).get_revision(revision)
    output = io.StringIO()
    config = _config(service)
    config.output_buffer = output
    command.upgrade(config, f"{step.down_revision or 'base'}:{revision}", sql=True)
    return output.getvalue()


def revisions(service: str) -> list[str]:
    """The history of a service, oldest first."""
    return [script.revision for script in reversed(list(_scripts(service).walk_revisions()))]


async def write(databases: Databases, service: str, title: str) -> Path:
    """Write the next migration of a service: what its tables have and the database has not."""
    tables = importlib.import_module(f"services.{service}.tables")
    number = f"{len(revisions(service)) + 1:04}"
    config = _config(service, metadata=tables.metadata)
    (place,) = databases.places([service])
    written: Any = await _with_connection(
        place, config, lambda: command.revision(config, title, autogenerate=True, rev_id=number)
    )
    return Path(written.path)


@asynccontextmanager
async def _alone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Hold the database's migration lock for the life of the connection.

    Asked for again and again, not waited for: CREATE INDEX CONCURRENTLY of the run that holds the
    lock would wait for the waiting statement.
    """
    while not await connection.fetchval(  # noqa: ASYNC110 - the event is in another process
        "SELECT pg_try_advisory_lock($1)", ADVISORY_LOCK
    ):
        await asyncio.sleep(0.1)
    try:
        yield
    finally:
        await connection.fetchval("SELECT pg_advisory_unlock($1)", ADVISORY_LOCK)


async def _pending(connection: asyncpg.Connection, service: str) -> list[Migration]:
    if service not in migrated_services():
        return []
    current = None
    table = f'"{service}".alembic_version'
    if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
        current = await connection.fetchval(f"SELECT version_num FROM {table}")  # noqa: S608
    scripts = _scripts(service)
    if current is not None and current not in revisions(service):
        raise StartError(
            f"The schema {service} is at migration {current}, which this version of the shop does "
            "not know: it is older than the database."
        )
    steps = (
        []
        if current == scripts.get_current_head()
        else scripts.iterate_revisions("head", current or "base")
    )
    return [
        Migration(service, step.revision, step.doc.rstrip(".")) for step in reversed(list(steps))
    ]


async def _upgrade(place: Place, service: str, applied: Callable[[Migration], None]) -> None:
    def heard(*, step: Any, **_: Any) -> None:
        applied(Migration(service, step.up_revision_id, step.up_revision.doc.rstrip(".")))

    config = _config(service, on_version_apply=heard)
    for attempt in range(LOCK_TRIES):
        try:
            await _with_connection(place, config, lambda: command.upgrade(config, "head"))
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            if state != LOCK_NOT_AVAILABLE or attempt == LOCK_TRIES - 1:
                raise StartError(f"A migration of {service} failed: {error.orig}") from error
            await asyncio.sleep(LOCK_PAUSE_SECONDS)
        else:
            return


async def _with_connection(place: Place, config: Config, work: Callable[[], Any]) -> Any:
    """Run Alembic, which is not asynchronous, on a connection that is."""
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: connect(place.url, **SESSION),
        poolclass=NullPool,
    )

    def run(connection: Connection) -> Any:
        config.attributes["connection"] = connection
        return work()

    try:
        async with engine.connect() as connection:
            return await connection.run_sync(run)
    finally:
        await engine.dispose()


async def protect_history(connection: asyncpg.Connection, place: Place, service: str) -> None:
    """The service's role gets rights on every new table; on Alembic's own it may only read."""
    if service in place.roles:
        role = quoted(user_of(place.roles[service]))
        await connection.execute(
            f'REVOKE INSERT, UPDATE, DELETE ON "{service}".alembic_version FROM {role}'
        )


def _config(service: str, **attributes: Any) -> Config:
    config = Config(attributes={"service": service, **attributes})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option(
        "version_locations", str(FOLDER / service / "versions").replace("%", "%%")
    )
    config.set_main_option("path_separator", "newline")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    return config


def _scripts(service: str) -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(service))
