"""A real Postgres for tests: one per run, a migrated database per worker, emptied between tests.

With xdist the controlling process starts it and tells the workers where it is; it ends with that
process, however that ends. Two runs have two of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from cli import migrate
from cli.database import Databases, databases_of
from cli.postgres import Cluster, serve
from cli.topology import ALL_SERVICES, free_port
from tests import migrated
from tools.partition import partition

PREFIX = "shop-tests-"
RUNNING = pytest.StashKey["RunningPostgres"]()
TEMPLATE = "shop_template"
# With this variable all tests run on tables in partitions (docs/scale.md).
PARTITIONED = "SHOP_TEST_PARTITIONED"


class RunningPostgres:
    """A Postgres in a folder of its own, which is removed at the end."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = self._stack.enter_context((folder / "lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        self._stack.callback(shutil.rmtree, folder)
        self.cluster = Cluster(folder / "postgres", folder / "password", free_port(), durable=False)
        self.cluster.create()
        self._stack.enter_context(serve(self.cluster, folder / "log"))
        self.migrated = folder / "migrated"

    def stop(self) -> None:
        self._stack.close()


def remove_left_behind() -> None:
    """Remove the folders of runs that were killed: nobody holds their locks."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def start_once(config: pytest.Config) -> RunningPostgres:
    if RUNNING not in config.stash:
        remove_left_behind()
        config.stash[RUNNING] = RunningPostgres()
    return config.stash[RUNNING]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Called by xdist in the controlling process, for each worker before it starts."""
    running = start_once(node.config)
    node.workerinput["postgres_url"] = running.cluster.url("postgres")
    node.workerinput["migrated"] = str(running.migrated)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        os.environ[migrated.VARIABLE] = config.workerinput["migrated"]


def pytest_unconfigure(config: pytest.Config) -> None:
    if RUNNING in config.stash:
        config.stash[RUNNING].stop()
        del config.stash[RUNNING]


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """The superuser's URL of the database `postgres` of this run's server."""
    told: dict[str, str] = getattr(request.config, "workerinput", {})
    return told.get("postgres_url") or start_once(request.config).cluster.url("postgres")


@pytest.fixture(scope="session")
def worker(request: pytest.FixtureRequest) -> str:
    """The name of this test process: `gw0`, `gw1`, … with xdist, `main` without."""
    told: dict[str, str] = getattr(request.config, "workerinput", {})
    return told.get("workerid", "main")


@pytest_asyncio.fixture(scope="session")
async def databases(postgres_url: str, worker: str) -> Databases:
    """This worker's own database, with every service's schema as migrated, and the URLs into it."""
    connection = await asyncpg.connect(postgres_url)
    try:
        async with one_at_a_time(connection):
            if not await connection.fetchval(
                "SELECT true FROM pg_database WHERE datname = $1 AND datistemplate", TEMPLATE
            ):
                await connection.execute(f"DROP DATABASE IF EXISTS {TEMPLATE}")
                await connection.execute(f"CREATE DATABASE {TEMPLATE}")
                await migrate.migrate(databases_of(in_database(postgres_url, TEMPLATE)))
                await connection.execute(f"ALTER DATABASE {TEMPLATE} IS_TEMPLATE true")
            await connection.execute(f"CREATE DATABASE test_{worker} TEMPLATE {TEMPLATE}")
    finally:
        await connection.close()
    copy = databases_of(in_database(postgres_url, f"test_{worker}"))
    await migrate.migrate(copy)  # rights on a database are not part of its template
    if PARTITIONED in os.environ:
        await partition_tables(copy)
    return copy


async def partition_tables(databases: Databases) -> None:
    """Orders, their history and the ledger in partitions: what is written soon lies in several."""
    now = datetime.now(UTC)
    bounds = [now + timedelta(seconds=seconds) for seconds in (0, 5, 30, 120, 86_400)]
    connection = await asyncpg.connect(databases.owner)
    try:
        await partition(connection, bounds)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def database_url(databases: Databases) -> Callable[[str], str]:
    """`database_url("catalog")` is what that service is given: its own role's URL."""
    return databases.services.__getitem__


@pytest_asyncio.fixture(scope="session")
async def owner_connection(databases: Databases) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection to this worker's database."""
    assert databases.owner is not None
    connection = await asyncpg.connect(databases.owner)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def empty_database(owner_connection: asyncpg.Connection) -> None:
    """Every table is empty when the test begins."""
    await empty_all_tables(owner_connection)


async def empty_all_tables(connection: asyncpg.Connection) -> None:
    """Remove all rows of all services: under 2 ms, as only tables that have rows are touched.

    Services that are served for the whole run go on with what they do by themselves, and may hold
    rows the other way round: whoever is to give way, tries again.
    """
    for _ in range(10):
        with contextlib.suppress(asyncpg.DeadlockDetectedError):
            await connection.execute(EMPTY_ALL_TABLES)
            return
    await connection.execute(EMPTY_ALL_TABLES)


def in_database(url: str, name: str) -> str:
    return url.rpartition("/")[0] + "/" + name


@contextlib.asynccontextmanager
async def one_at_a_time(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Among the workers of this run."""
    await connection.execute("SELECT pg_advisory_lock(1)")
    try:
        yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock(1)")


SCHEMAS = ", ".join(f"'{name}'" for name in ALL_SERVICES)
# Deleting the few rows of a test is much faster than TRUNCATE, which makes new files. As a replica
# Postgres runs no triggers, so foreign keys and append-only tables do not object.
EMPTY_ALL_TABLES = f"""
DO $$
DECLARE
    found record;
    has_rows boolean;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR found IN
        SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
        WHERE schemaname IN ({SCHEMAS}) AND tablename <> 'alembic_version'
    LOOP
        EXECUTE 'SELECT EXISTS (SELECT FROM ' || found.name || ')' INTO has_rows;
        IF has_rows THEN
            EXECUTE 'DELETE FROM ' || found.name;
        END IF;
    END LOOP;
END $$
"""
