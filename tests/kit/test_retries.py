"""Transactions that Postgres had give way: run again, unless that would do something twice."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
from grpc import StatusCode

from services.kit.ids import uuid7
from tests.kit.schema import INSERT
from tests.kit.serving import Served
from tests.kit.things import Thing
from tests.running import refused


class TestRetry:
    async def test_a_transaction_that_gave_way_is_run_again(self, served: Served) -> None:
        runs = []

        async def deadlocked(request: Any) -> Any:
            runs.append(1)
            if len(runs) < 3:
                raise asyncpg.DeadlockDetectedError("deadlock")
            async with served.db.transaction() as tx:
                return tx.reply(request)

        served.things.behaviour["CreateThing"] = deadlocked
        key = (("idempotency-key", "k"),)
        assert (await served.stub.CreateThing(Thing(text="a"), metadata=key)).text == "a"
        assert len(runs) == 3
        await served.stub.CreateThing(Thing(text="a"), metadata=key)
        assert len(runs) == 4  # it began, and was answered from the key

    async def test_after_four_times_the_client_is_told(self, served: Served) -> None:
        runs = []

        async def unlucky(request: Any) -> Any:
            runs.append(1)
            raise asyncpg.SerializationError("again")

        served.things.behaviour["CreateThing"] = unlucky
        with refused(StatusCode.ABORTED, "TRANSACTION_CONFLICT"):
            await served.stub.CreateThing(Thing())
        assert len(runs) == 4

    async def test_a_call_that_has_committed_is_not_run_again(
        self, served: Served, owner_connection: asyncpg.Connection
    ) -> None:
        async def two_steps(request: Any) -> Any:
            async with served.db.transaction() as tx:
                await INSERT.run(tx, new_id=uuid7(), new_text="first")
                tx.reply(request)
            async with served.db.transaction():
                raise asyncpg.DeadlockDetectedError("deadlock")

        served.things.behaviour["CreateThing"] = two_steps
        with refused(StatusCode.ABORTED, "TRANSACTION_CONFLICT"):
            await served.stub.CreateThing(Thing())
        assert await owner_connection.fetchval("SELECT count(*) FROM kit.things") == 1

    async def test_a_real_deadlock_is_not_noticed_by_clients(
        self, served: Served, owner_connection: asyncpg.Connection
    ) -> None:
        a, b = uuid7(), uuid7()
        for id in (a, b):
            await owner_connection.execute("INSERT INTO kit.things (id) VALUES ($1)", id)
        lock = "SELECT FROM kit.things WHERE id = $1 FOR UPDATE"

        async def crosswise(request: Any) -> Any:
            async with served.db.transaction() as tx:
                await tx.execute("SET LOCAL deadlock_timeout = '50ms'")
                for id in (a, b) if request.text == "ab" else (b, a):
                    await tx.execute(lock, id)
                    await asyncio.sleep(0.03)
                return tx.reply(request)

        served.things.behaviour["CreateThing"] = crosswise
        await asyncio.gather(
            *(served.stub.CreateThing(Thing(text=text)) for text in ["ab", "ba"] * 2)
        )
