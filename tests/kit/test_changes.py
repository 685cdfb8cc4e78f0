"""What processes of a service tell each other of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from services.kit.changes import Changes
from services.kit.db import Database
from services.kit.ids import uuid7
from tests.kit import schema
from tests.kit.waiting import until

CHANNEL = "kit_changes"
NAME = "kit changes"
TERMINATE = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = $1 AND query LIKE 'LISTEN%' AND datname = current_database()
"""


class Process:
    """What one process hears, and how often it may have missed something."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.heard: list[UUID] = []
        self.missed = 0
        self.changes = Changes(database, CHANNEL, heard=self._hear, missed=self._miss)

    def _hear(self, ids: Collection[UUID]) -> None:
        self.heard.extend(ids)

    def _miss(self) -> None:
        self.missed += 1

    async def change(self, *ids: UUID) -> None:
        async with self.database.transaction() as tx:
            tx.changed(*ids)


@asynccontextmanager
async def process(url: str) -> AsyncIterator[Process]:
    database = await Database.open(url, schema.metadata, name=NAME)
    running = Process(database)
    work = asyncio.create_task(running.changes.forever())
    try:
        await until(lambda: running.missed > 0)  # it listens
        yield running
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await database.close()


async def test_the_process_itself_hears_before_the_change_is_answered(database: Database) -> None:
    alone, id = Process(database), uuid7()
    await alone.change(id)
    assert alone.heard == [id]


async def test_a_change_that_may_not_have_come_through_is_told_too(database: Database) -> None:
    alone, id = Process(database), uuid7()
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            tx.changed(id)
            raise ZeroDivisionError
    assert alone.heard == [id]


async def test_a_transaction_that_changes_nothing_tells_nothing(database: Database) -> None:
    alone = Process(database)
    await alone.change()
    assert alone.heard == []


async def test_every_other_process_hears_once(url: str) -> None:
    async with process(url) as first, process(url) as second, process(url) as third:
        ids = [uuid7() for _ in range(500)]  # more than go into one message
        await asyncio.gather(*(first.change(*ids[at : at + 50]) for at in range(0, 500, 50)))
        await until(lambda: len(second.heard) >= 500 and len(third.heard) >= 500)
        await asyncio.sleep(0.1)
        assert sorted(second.heard) == sorted(third.heard) == sorted(first.heard) == sorted(ids)


async def test_who_was_deaf_for_a_while_is_told_to_have_missed_something(
    url: str, owner_connection: asyncpg.Connection
) -> None:
    async with process(url) as first, process(url) as second:
        before = second.missed
        assert await owner_connection.fetchval(TERMINATE, NAME) == 2
        await until(lambda: second.missed > before)
        id = uuid7()
        await first.change(id)
        await until(lambda: second.heard == [id])


async def test_news_that_could_not_be_sent_are_sent_later(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(url) as first, process(url) as second:
        id, connection, failures = uuid7(), first.database.connection, [OSError("away")]

        @asynccontextmanager
        async def away() -> AsyncIterator[Any]:
            if failures:
                raise failures.pop()
            async with connection() as one:
                yield one

        await first.change()
        monkeypatch.setattr(first.database, "connection", away)
        first.changes._tell([id])
        await until(lambda: second.heard == [id])
        assert not failures
