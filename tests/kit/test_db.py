"""The database: pools that run out, connections that are lost, transactions left midway."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa
from grpc import StatusCode

from cli.postgres import Cluster
from cli.topology import ALL_SERVICES
from services.kit import db, idempotency, pool, sessions
from services.kit.db import Database, Statement
from services.kit.errors import ServiceError
from services.kit.ids import uuid7
from services.kit.metrics import POOL_IN_USE
from services.kit.settings import ServiceSettings
from tests.kit.schema import COUNT, INSERT, SLEEP, metadata
from tests.kit.waiting import AT_ONCE

ACTIVITY = """
SELECT coalesce(array_agg(state), '{}') FROM pg_stat_activity
WHERE application_name = $1 AND datname = current_database() AND pid <> pg_backend_pid()
"""


@contextlib.asynccontextmanager
async def small(url: str, connections: int = 2) -> AsyncIterator[Database]:
    """A database with few connections."""
    opened = await Database.open(url, metadata, name="small pool", connections=connections)
    yield opened
    await opened.close()


async def states(watching: asyncpg.Connection, name: str = "small pool") -> list[str]:
    """What Postgres says its connections of that name are doing."""
    found: list[str] = await watching.fetchval(ACTIVITY, name)
    return found


def lent_out() -> float:
    """What Prometheus would read."""
    return next(iter(POOL_IN_USE.collect())).samples[0].value


async def sleep_once(database: Database) -> None:
    async with database.connection() as connection:
        await SLEEP.value(connection, seconds=0.01)


class TestTransaction:
    async def test_who_only_looks_on_is_told_once_it_is_committed(self, database: Database) -> None:
        told: list[str] = []
        async with database.transaction() as tx:
            tx.when_committed(lambda: told.append("committed"))
            assert told == []
        assert told == ["committed"]
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as tx:
                tx.when_committed(lambda: told.append("rolled back"))
                raise ZeroDivisionError
        assert told == ["committed"]

    async def test_it_commits_at_the_end(self, database: Database) -> None:
        async with database.transaction() as tx:
            await INSERT.run(tx, new_id=uuid7(), new_text="")
        async with database.connection() as connection:
            assert await COUNT.value(connection) == 1

    async def test_an_exception_rolls_it_back(self, database: Database) -> None:
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as tx:
                await INSERT.run(tx, new_id=uuid7(), new_text="")
                raise ZeroDivisionError
        async with database.connection() as connection:
            assert await COUNT.value(connection) == 0

    @pytest.mark.parametrize("after", [0.0, 0.0005, 0.001, 0.002, 0.005, 0.02])
    async def test_being_cancelled_anywhere_leaves_nothing_open(
        self, url: str, owner_connection: asyncpg.Connection, after: float
    ) -> None:
        async def work(database: Database) -> None:
            async with database.transaction() as tx:
                await INSERT.run(tx, new_id=uuid7(), new_text="")
                await SLEEP.value(tx, seconds=0.004)

        async with small(url) as database:
            for _ in range(10):
                task = asyncio.create_task(work(database))
                await asyncio.sleep(after)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            # As many at once as there are connections: none is lent out any more, and all are good.
            await asyncio.wait_for(asyncio.gather(work(database), work(database)), AT_ONCE)
            assert set(await states(owner_connection)) <= {"idle"}


class TestPool:
    async def test_when_it_is_lent_out_the_refusal_comes_in_time(self, url: str) -> None:
        async with small(url, 1) as database, database.connection():
            began = time.monotonic()
            with pytest.raises(ServiceError) as raised:
                async with database.connection():
                    pass
            assert time.monotonic() - began < pool.ACQUIRE_SECONDS + AT_ONCE
        assert raised.value.code == StatusCode.RESOURCE_EXHAUSTED
        assert raised.value.retry_after is not None

    async def test_what_comes_back_in_order_is_lent_again(self, url: str) -> None:
        pid = Statement(sa.select(sa.func.pg_backend_pid()))
        async with small(url, 3) as database:
            found = []
            for _ in range(4):
                async with database.connection() as connection:
                    found.append(await pid.value(connection))
                assert lent_out() == 0
            assert len(set(found)) == 1

    async def test_those_that_nobody_needs_are_ended_but_for_one(
        self, url: str, owner_connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool, "IDLE_SECONDS", 0.5)
        async with small(url, 5) as database:
            await asyncio.gather(*(sleep_once(database) for _ in range(5)))
            assert len(await states(owner_connection)) == 5
            async with asyncio.timeout(60):
                while len(await states(owner_connection)) > 2:
                    # Two are needed all the time.
                    await asyncio.gather(sleep_once(database), sleep_once(database))
                while len(await states(owner_connection)) > 1:
                    await asyncio.sleep(0.1)
            # The others are made anew where they are needed.
            await asyncio.gather(*(sleep_once(database) for _ in range(5)))
            assert len(await states(owner_connection)) == 5
            assert lent_out() == 0

    async def test_one_that_a_call_failed_with_is_lent_again_when_it_is_done(
        self, url: str
    ) -> None:
        """A statement that is given up is still at work in Postgres for a moment."""
        async with small(url, 1) as database:
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    async with database.connection() as connection, asyncio.timeout(0.005):
                        await SLEEP.value(connection, seconds=1)
                async with database.connection() as connection:
                    assert await connection.fetchval("SELECT 7") == 7

    async def test_many_who_wait_are_served_in_turn(self, url: str) -> None:
        async with small(url, 2) as database:
            await asyncio.gather(*(sleep_once(database) for _ in range(50)))
            assert lent_out() == 0

    async def test_it_closes_while_a_connection_is_lent_out(self, url: str) -> None:
        async with small(url) as database:
            await asyncio.gather(sleep_once(database), sleep_once(database))
            last = asyncio.create_task(sleep_once(database))
            await asyncio.sleep(0)
            began = time.monotonic()
            await database.close()
            assert time.monotonic() - began < pool.CLOSE_SECONDS
            await last

    async def test_a_connection_that_comes_free_is_taken(self, url: str) -> None:
        async with small(url, 1) as database:
            async with database.connection():
                waiting = asyncio.create_task(database.ready())
                second = asyncio.create_task(sleep_once(database))
                await asyncio.sleep(0.05)
            await second
            assert await waiting

    async def test_what_is_lent_out_is_counted(self, url: str) -> None:
        async with small(url) as database:
            async with database.connection(), database.connection():
                assert lent_out() == 2
            assert lent_out() == 0

    async def test_no_more_connections_than_were_allowed(
        self, url: str, owner_connection: asyncpg.Connection
    ) -> None:
        async with small(url, 3) as database:
            assert await database.ready()
            await asyncio.gather(*(sleep_once(database) for _ in range(20)))
            # Three of the pool, one that asks whether Postgres is there.
            assert len(await states(owner_connection)) == 4

    async def test_closing_gives_them_back(
        self, url: str, owner_connection: asyncpg.Connection
    ) -> None:
        async with small(url) as database:
            await sleep_once(database)
            await database.ready()
        async with asyncio.timeout(AT_ONCE):
            while await states(owner_connection):
                await asyncio.sleep(0.01)


class TestLostConnections:
    async def test_a_call_on_it_is_unavailable_and_the_next_is_fine(
        self, url: str, owner_connection: asyncpg.Connection
    ) -> None:
        async with small(url) as database:
            with pytest.raises(ServiceError) as raised:
                async with database.transaction() as tx:
                    pid = await tx.fetchval("SELECT pg_backend_pid()")
                    await owner_connection.execute("SELECT pg_terminate_backend($1)", pid)
                    await SLEEP.value(tx, seconds=1.0)
            assert raised.value.code == StatusCode.UNAVAILABLE
            await sleep_once(database)

    async def test_one_that_died_in_the_pool_is_replaced(
        self, url: str, owner_connection: asyncpg.Connection
    ) -> None:
        async with small(url, 1) as database:
            async with database.connection() as connection:
                pid = await connection.fetchval("SELECT pg_backend_pid()")
            await owner_connection.execute("SELECT pg_terminate_backend($1)", pid)
            await asyncio.sleep(0.1)
            await sleep_once(database)

    async def test_nobody_there_is_unavailable(self) -> None:
        database = await Database.open("postgresql://x:y@127.0.0.1:9/z", metadata, name="nobody")
        with pytest.raises(ServiceError) as raised:
            async with database.connection():
                pass
        assert raised.value.code == StatusCode.UNAVAILABLE
        assert not await database.ready()
        await database.close()

    async def test_somebody_who_does_not_answer_is_unavailable_not_busy(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool, "ACQUIRE_SECONDS", 0.2)
        monkeypatch.setattr(db, "READY_SECONDS", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"postgresql://x:y@127.0.0.1:{silent.getsockname()[1]}/z"
            database = await Database.open(address, metadata, name="silent")
            with pytest.raises(ServiceError) as raised:
                async with database.connection():
                    pass
            assert raised.value.code == StatusCode.UNAVAILABLE
            assert not await database.ready()
            await database.close()

    async def test_between_postgres_last_word_and_the_end_it_is_unavailable_too(
        self, database: Database
    ) -> None:
        with pytest.raises(ServiceError) as raised:
            async with database.connection():
                # What asyncpg says when it is told to send on a connection that was just ended.
                raise asyncpg.InternalClientError("cannot switch to state 12")
        assert raised.value.code == StatusCode.UNAVAILABLE

    async def test_another_error_meanwhile_is_not_taken_for_it(self, database: Database) -> None:
        with pytest.raises(FileNotFoundError):
            async with database.transaction():
                raise FileNotFoundError
        with pytest.raises(asyncpg.DataError):
            async with database.connection() as connection:
                await SLEEP.value(connection, seconds="long")


class TestSession:
    async def test_statements_and_locks_are_limited(self, database: Database) -> None:
        shown = {}
        async with database.connection() as connection:
            for name in sessions.SESSION:
                shown[name] = await connection.fetchval(f"SHOW {name}")
        assert shown == sessions.SESSION

    async def test_tables_may_say_more(self, url: str) -> None:
        told = {sessions.SETTINGS: {"plan_cache_mode": "force_generic_plan"}}
        more = sa.MetaData(schema=metadata.schema, info=told)
        idempotency.table(more)
        opened = await Database.open(url, more, name="told more", connections=1)
        try:
            async with opened.connection() as connection:
                assert await connection.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
                assert await connection.fetchval("SHOW lock_timeout") == "1s"
        finally:
            await opened.close()

    async def test_a_statement_that_takes_too_long_is_ended(self, database: Database) -> None:
        with pytest.raises(asyncpg.QueryCanceledError):
            async with database.transaction() as tx:
                await tx.execute("SET LOCAL statement_timeout = '50ms'")
                await SLEEP.value(tx, seconds=1.0)


class TestReady:
    async def test_it_is_when_postgres_answers(self, database: Database) -> None:
        assert await database.ready()

    async def test_a_pool_that_is_lent_out_is_busy_not_away(self, url: str) -> None:
        async with small(url, 1) as database, database.connection():
            began = time.monotonic()
            assert await database.ready()
            assert time.monotonic() - began < AT_ONCE

    async def test_without_its_tables_it_is_not(self, url: str) -> None:
        bare = sa.MetaData(schema="nowhere")
        for table in metadata.sorted_tables:
            table.to_metadata(bare, schema="nowhere")
        database = await Database.open(url, bare, name="bare")
        assert not await database.ready()
        await database.close()

    async def test_it_is_again_once_its_connection_was_lost(
        self, url: str, owner_connection: asyncpg.Connection
    ) -> None:
        async with small(url) as database:
            assert await database.ready()
            await owner_connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'small pool' AND datname = current_database()"
            )
            await database.ready()
            assert await database.ready()


class TestOnQuery:
    async def test_every_statement_is_told(self, url: str) -> None:
        heard: list[str] = []
        database = await Database.open(
            url, metadata, name="heard", on_query=lambda record: heard.append(record.query)
        )
        async with database.transaction() as tx:
            await Statement(sa.select(sa.literal(1))).value(tx)
        await database.close()
        assert [text.rstrip(";").split()[0] for text in heard][-3:] == ["BEGIN", "SELECT", "COMMIT"]


def test_one_postgres_has_connections_for_all_services_and_some_to_spare(tmp_path: Path) -> None:
    command = Cluster(tmp_path, tmp_path / "password", port=1).program().command
    [allowed] = [text for text in command if text.startswith("max_connections=")]
    pool: int = ServiceSettings.described()["database_connections"].default
    # Beside its pool a process has one connection that asks for readiness, and one that listens.
    needed = len(ALL_SERVICES) * (pool + 2)
    assert needed <= int(allowed.partition("=")[2]) - 15
