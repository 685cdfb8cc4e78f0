"""The fixtures that all tests stand on: two runs at once never meet."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import asyncpg

from cli.database import Databases
from tests import postgres_fixtures
from tests.postgres_fixtures import PREFIX, RunningPostgres, empty_all_tables, in_database


def test_two_runs_have_a_server_each(postgres_url: str) -> None:
    other = RunningPostgres()
    try:
        assert other.cluster.url("postgres").partition("@")[2] != postgres_url.partition("@")[2]
        postgres_fixtures.remove_left_behind()
        assert other.cluster.data.exists(), "somebody's folder was taken for left behind"
    finally:
        other.stop()
    assert not other.cluster.data.exists()


def test_what_a_killed_run_left_is_removed() -> None:
    left = Path(tempfile.mkdtemp(prefix=PREFIX))
    (left / "lock").touch()
    (left / "postgres").mkdir()
    try:
        postgres_fixtures.remove_left_behind()
        assert not left.exists()
    finally:
        shutil.rmtree(left, ignore_errors=True)


async def test_emptying_leaves_the_tables_and_takes_the_rows(
    databases: Databases, owner_connection: asyncpg.Connection
) -> None:
    await owner_connection.execute(
        """
        CREATE TABLE cart.parents (id int PRIMARY KEY);
        CREATE TABLE cart.children (parent_id int REFERENCES cart.parents);
        INSERT INTO cart.parents VALUES (1);
        INSERT INTO cart.children VALUES (1);
        """
    )
    try:
        await empty_all_tables(owner_connection)
        left = "SELECT (SELECT count(*) FROM cart.parents) + (SELECT count(*) FROM cart.children)"
        assert await owner_connection.fetchval(left) == 0
        version = "SELECT count(*) FROM catalog.alembic_version"
        assert await owner_connection.fetchval(version) == 1
    finally:
        await owner_connection.execute("DROP TABLE cart.children, cart.parents")


async def test_a_worker_has_a_database_for_itself(
    databases: Databases, postgres_url: str, worker: str
) -> None:
    assert databases.owner == in_database(postgres_url, f"test_{worker}")
