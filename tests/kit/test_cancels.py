"""Calls that are given up, by the thousand, and calls that find no connection free."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import asyncpg
import grpc
from grpc import StatusCode

from services.kit import pool
from services.kit.ids import uuid7
from tests.kit.schema import INSERT, SLEEP
from tests.kit.serving import Served
from tests.kit.things import Thing
from tests.kit.waiting import AT_ONCE
from tests.running import refused

CANCELS = 5000
BUSY = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'kit tests' AND datname = current_database() AND state <> 'idle'
"""


class TestUnderCancels:
    async def test_thousands_of_cancels_leak_no_connection_and_no_transaction(
        self, served: Served, owner_connection: asyncpg.Connection
    ) -> None:
        async def work(request: Any) -> Any:
            async with served.db.transaction() as tx:
                await INSERT.run(tx, new_id=uuid7(), new_text="")
                await SLEEP.value(tx, seconds=0.002)
                return tx.reply(request)

        served.things.behaviour["CreateThing"] = work

        async def cancelled(number: int) -> None:
            running = served.stub.CreateThing(
                Thing(), metadata=(("idempotency-key", str(number)),), timeout=5
            )
            await asyncio.sleep((number * 7 % 101) / 101 * 0.02)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await running

        for start in range(0, CANCELS, 20):
            await asyncio.gather(*(cancelled(n) for n in range(start, min(start + 20, CANCELS))))
        # The last ones may still be at it; one that leaked would stay until Postgres ends it.
        began = time.monotonic()
        while await owner_connection.fetchval(BUSY):
            assert time.monotonic() - began < pool.ACQUIRE_SECONDS * 2
            await asyncio.sleep(0.05)
        # All connections are there to be lent out again, at once.
        async with contextlib.AsyncExitStack() as held:
            for _ in range(10):
                await held.enter_async_context(served.db.connection())
        # What was committed has its key, and the other way round.
        assert await owner_connection.fetchval(
            "SELECT (SELECT count(*) FROM kit.things) = "
            "(SELECT count(*) FROM kit.idempotency_keys WHERE answer IS NOT NULL)"
        )
        assert await owner_connection.fetchval(
            "SELECT NOT EXISTS (SELECT FROM kit.idempotency_keys WHERE answer IS NULL)"
        )

    async def test_a_pool_that_is_lent_out_refuses_within_two_seconds(self, served: Served) -> None:
        async def read(request: Any) -> Any:
            async with served.db.connection():
                return request

        served.things.behaviour["GetThing"] = read
        async with contextlib.AsyncExitStack() as held:
            for _ in range(10):
                await held.enter_async_context(served.db.connection())
            began = time.monotonic()
            with refused(StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED") as refusal:
                await served.stub.GetThing(Thing(), timeout=20)
            assert time.monotonic() - began < pool.ACQUIRE_SECONDS + AT_ONCE
            assert refusal[0].retry_seconds == 1
            assert pool.ACQUIRE_SECONDS < 2
