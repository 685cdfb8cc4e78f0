"""The outbox: what a commit promised is done, at least once, whatever fails meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from services.kit import outbox as kit_outbox
from services.kit.db import Database
from services.kit.errors import unavailable
from services.kit.outbox import Outbox, Relay
from tests.kit.schema import metadata
from tests.kit.waiting import AT_ONCE, until
from tests.metered import sample

OUTBOX = Outbox(metadata)


class Delivered:
    """Where payloads arrive; some deliveries can be made to fail or to take long."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.arrived = asyncio.Event()
        self.fail_first = 0

    async def __call__(self, payload: bytes) -> None:
        if self.fail_first:
            self.fail_first -= 1
            raise unavailable("not yet")
        self.payloads.append(payload)
        self.arrived.set()


async def add(database: Database, *payloads: bytes, topic: str = "mail") -> None:
    async with database.transaction() as tx:
        for payload in payloads:
            await OUTBOX.add(tx, topic, payload)


async def left(connection: asyncpg.Connection) -> list[Any]:
    return await connection.fetch("SELECT * FROM kit.outbox ORDER BY create_time")


@contextlib.asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    task = asyncio.create_task(relay.forever())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest_asyncio.fixture
async def mail() -> Delivered:
    return Delivered()


@pytest.fixture
def relay(database: Database, mail: Delivered) -> Relay:
    return Relay(database, OUTBOX, {"mail": mail})


class TestDelivery:
    async def test_what_was_committed_arrives_and_is_forgotten(
        self,
        database: Database,
        relay: Relay,
        mail: Delivered,
        owner_connection: asyncpg.Connection,
    ) -> None:
        await add(database, b"one", b"two")
        assert await relay.deliver_due() == 2
        assert sorted(mail.payloads) == [b"one", b"two"]
        assert await left(owner_connection) == []

    async def test_what_waits_is_told_to_prometheus(
        self, database: Database, relay: Relay, owner_connection: asyncpg.Connection
    ) -> None:
        await add(database, b"one", b"two")
        await owner_connection.execute(
            "UPDATE kit.outbox SET create_time = now() - interval '1 hour' WHERE payload = 'two'"
        )
        await relay.measure()
        assert sample("shop_outbox_pending", topic="mail") == 2
        assert 3600 <= sample("shop_outbox_oldest_seconds", topic="mail") < 4000
        await relay.deliver_due()
        await relay.measure()
        assert sample("shop_outbox_pending", topic="mail") == 0
        assert sample("shop_outbox_oldest_seconds", topic="mail") == 0

    async def test_what_was_rolled_back_never_was(
        self, database: Database, relay: Relay, mail: Delivered
    ) -> None:
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as tx:
                await OUTBOX.add(tx, "mail", b"one")
                raise ZeroDivisionError
        assert await relay.deliver_due() == 0
        assert mail.payloads == []

    async def test_a_commit_wakes_the_relay(
        self, database: Database, relay: Relay, mail: Delivered, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kit_outbox, "POLL_SECONDS", 60.0)
        async with running(relay):
            await asyncio.sleep(0.3)  # it has looked, and listens
            await add(database, b"one")
            await until(lambda: bool(mail.payloads))

    async def test_without_a_listener_it_still_looks(
        self, database: Database, relay: Relay, mail: Delivered, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def deaf(*_: Any, **__: Any) -> Any:
            raise OSError

        monkeypatch.setattr(database, "follow", deaf)
        monkeypatch.setattr(kit_outbox, "POLL_SECONDS", 0.1)
        async with running(relay):
            await asyncio.sleep(0.2)
            await add(database, b"one")
            await until(lambda: bool(mail.payloads))

    async def test_a_listener_that_is_lost_comes_back(
        self,
        database: Database,
        relay: Relay,
        mail: Delivered,
        owner_connection: asyncpg.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(kit_outbox, "POLL_SECONDS", 60.0)
        async with running(relay):
            await asyncio.sleep(0.3)
            await owner_connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
                " AND datname = current_database()"
            )
            await add(database, b"one")
            await until(lambda: bool(mail.payloads))

    async def test_a_backlog_is_worked_off_without_pauses(
        self, database: Database, relay: Relay, mail: Delivered
    ) -> None:
        await add(database, *(b"%d" % number for number in range(500)))
        async with running(relay):
            await until(lambda: len(mail.payloads) == 500, seconds=30)
        assert len(set(mail.payloads)) == 500


class TestFailure:
    async def test_it_is_tried_again_later_and_later(
        self,
        database: Database,
        relay: Relay,
        mail: Delivered,
        owner_connection: asyncpg.Connection,
    ) -> None:
        mail.fail_first = 3
        await add(database, b"one")
        pauses = []
        for _ in range(3):
            assert await relay.deliver_due() == 1
            assert await relay.deliver_due() == 0  # not due yet
            pauses.append(
                await owner_connection.fetchval(
                    "SELECT extract(epoch FROM next_attempt_time - clock_timestamp())::float "
                    "FROM kit.outbox"
                )
            )
            await owner_connection.execute("UPDATE kit.outbox SET next_attempt_time = now()")
        assert 0.5 < pauses[0] < pauses[1] < pauses[2] < 5
        [row] = await left(owner_connection)
        assert (row["attempts"], row["last_error"]) == (3, "DEPENDENCY_UNAVAILABLE")
        await relay.deliver_due()
        assert mail.payloads == [b"one"]

    async def test_the_text_of_an_error_is_not_kept(
        self, database: Database, owner_connection: asyncpg.Connection
    ) -> None:
        async def fail(_: bytes) -> None:
            raise ValueError("canary@example.com")

        await add(database, b"one")
        await Relay(database, OUTBOX, {"mail": fail}).deliver_due()
        [row] = await left(owner_connection)
        assert row["last_error"] == "ValueError"

    async def test_one_that_hangs_is_given_up_and_holds_nobody_else_up(
        self,
        database: Database,
        mail: Delivered,
        monkeypatch: pytest.MonkeyPatch,
        owner_connection: asyncpg.Connection,
    ) -> None:
        monkeypatch.setattr(kit_outbox, "DELIVERY_SECONDS", 2.0)
        hanging, given_up = asyncio.Event(), asyncio.Event()

        async def hang(_: bytes) -> None:
            hanging.set()
            try:
                await asyncio.sleep(60)
            finally:
                given_up.set()

        await add(database, b"slow", topic="slow")
        async with running(Relay(database, OUTBOX, {"slow": hang, "mail": mail})):
            await until(hanging.is_set)
            await add(database, b"one")
            await until(lambda: bool(mail.payloads))
            assert not given_up.is_set()
            await until(given_up.is_set)
            async with asyncio.timeout(AT_ONCE):
                while (await left(owner_connection))[0]["last_error"] != "TimeoutError":
                    await asyncio.sleep(0.01)

    async def test_one_that_cannot_be_noted_is_delivered_again(
        self,
        database: Database,
        relay: Relay,
        mail: Delivered,
        owner_connection: asyncpg.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        async def no_note(*_: Any) -> None:
            raise unavailable("Postgres is away")

        await add(database, b"one", b"two")
        with monkeypatch.context() as patched:
            patched.setattr(OUTBOX, "delivered", no_note)
            patched.setattr(OUTBOX, "failed", no_note)
            assert await relay.deliver_due() == 2
        await owner_connection.execute("UPDATE kit.outbox SET next_attempt_time = now()")
        await relay.deliver_due()
        assert Counter(mail.payloads) == {b"one": 2, b"two": 2}
        assert await left(owner_connection) == []


class TestSeveralRelays:
    async def test_a_leased_row_is_nobody_elses(self, database: Database) -> None:
        await add(database, *(b"%d" % number for number in range(120)))
        async with database.connection() as one, database.connection() as other:
            leases = await asyncio.gather(
                *(OUTBOX.lease(one if turn % 2 else other, "mail") for turn in (0, 1))
            )
            leases.append(await OUTBOX.lease(one, "mail"))
            ids = [row["id"] for lease in leases for row in lease]
        assert [len(lease) for lease in leases] == [50, 50, 20]
        assert len(set(ids)) == 120

    async def test_a_row_that_somebody_holds_keeps_nobody_waiting(self, database: Database) -> None:
        await add(database, b"one", b"two")
        async with database.transaction() as tx, database.connection() as other:
            await tx.execute("SELECT FROM kit.outbox LIMIT 1 FOR UPDATE")
            # Whoever waited for the lock would be refused after a second.
            assert len(await OUTBOX.lease(other, "mail")) == 1

    async def test_two_at_work_deliver_each_row_once(
        self, database: Database, mail: Delivered
    ) -> None:
        await add(database, *(b"%d" % number for number in range(300)))
        relays = [Relay(database, OUTBOX, {"mail": mail}) for _ in range(2)]
        async with running(relays[0]), running(relays[1]):
            await until(lambda: len(mail.payloads) >= 300, seconds=20)
        assert Counter(mail.payloads).most_common(1)[0][1] == 1

    async def test_what_a_dead_relay_held_is_delivered_when_its_lease_ends(
        self, database: Database, relay: Relay, mail: Delivered, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kit_outbox, "LEASE", timedelta(milliseconds=300))
        await add(database, b"one")
        async with database.connection() as connection:
            assert len(await OUTBOX.lease(connection, "mail")) == 1  # and dies
        async with asyncio.timeout(AT_ONCE):
            while not await relay.deliver_due():
                await asyncio.sleep(0.05)
        assert mail.payloads == [b"one"]
