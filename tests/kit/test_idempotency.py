"""Idempotency keys, from the wire to the row: one effect, one answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import grpc
import pytest
from grpc import StatusCode
from hypothesis import given, strategies as st

from services.kit import idempotency
from services.kit.call import NOBODY
from services.kit.db import Database
from services.kit.errors import ServiceError, failed_precondition
from services.kit.ids import uuid7
from shop.errors.v1 import reason_pb2
from tests.callers import User, service
from tests.kit.schema import COUNT, INSERT
from tests.kit.serving import Served, always_ready, serving
from tests.kit.things import Thing
from tests.running import refused

Secrets = tuple[str, ...]

KEY = (("idempotency-key", "k-1"),)


async def rows(served: Served) -> int:
    async with served.db.connection() as connection:
        found: int = await COUNT.value(connection)
        return found


def creating(
    served: Served, *, meanwhile: Callable[[], Awaitable[None]] | None = None
) -> Callable[[Any], Awaitable[Any]]:
    """A handler that makes a thing, as handlers of services do."""

    async def create(request: Any) -> Any:
        id = uuid7()
        async with served.db.transaction() as tx:
            await INSERT.run(tx, new_id=id, new_text=request.text)
            if meanwhile is not None:
                await meanwhile()
            return tx.reply(Thing(id=str(id), text=request.text), location=f"/things/{id}/")

    return create


@pytest.fixture
def create(served: Served) -> Any:
    """`CreateThing` of a service that makes things."""
    served.things.behaviour["CreateThing"] = creating(served)
    return served.stub.CreateThing


class TestReplay:
    async def test_a_repeated_call_has_one_effect_and_the_same_answer(
        self, served: Served, create: Any
    ) -> None:
        first = await create(Thing(text="a"), metadata=KEY)
        assert await create(Thing(text="a"), metadata=KEY) == first
        assert await rows(served) == 1

    async def test_the_location_and_the_201_are_repeated_too(
        self, served: Served, create: Any
    ) -> None:
        said = []
        for _ in range(2):
            call = create(Thing(text="a"), metadata=KEY)
            metadata_ = dict(await call.initial_metadata())
            said.append((metadata_["x-http-code"], metadata_["location"], (await call).id))
        assert said[0] == said[1]
        assert said[0][:2] == ("201", f"/things/{said[0][2]}/")

    async def test_without_a_key_every_call_has_its_effect(
        self, served: Served, create: Any
    ) -> None:
        for _ in range(2):
            await create(Thing(text="a"))
        assert await rows(served) == 2

    async def test_fifty_at_once_are_one(self, served: Served, create: Any) -> None:
        async def one() -> str:
            while True:  # a pool of ten cannot hold fifty that wait for one
                try:
                    answer = await create(Thing(text="a"), metadata=KEY)
                except grpc.aio.AioRpcError as error:
                    assert error.code() in (StatusCode.RESOURCE_EXHAUSTED, StatusCode.ABORTED)
                else:
                    return str(answer.id)

        assert len(set(await asyncio.gather(*(one() for _ in range(50))))) == 1
        assert await rows(served) == 1

    async def test_a_second_call_waits_for_the_first(self, served: Served) -> None:
        served.things.behaviour["CreateThing"] = creating(
            served, meanwhile=lambda: asyncio.sleep(0.3)
        )
        first, second = await asyncio.gather(
            *(served.stub.CreateThing(Thing(text="a"), metadata=KEY) for _ in range(2))
        )
        assert first == second
        assert await rows(served) == 1

    async def test_after_a_first_call_that_failed_the_second_runs(self, served: Served) -> None:
        async def fail() -> None:
            await asyncio.sleep(0.2)
            raise failed_precondition(reason_pb2.REASON_OUT_OF_STOCK, "too few")

        served.things.behaviour["CreateThing"] = creating(served, meanwhile=fail)
        with refused(StatusCode.FAILED_PRECONDITION, "OUT_OF_STOCK"):
            await served.stub.CreateThing(Thing(text="a"), metadata=KEY)
        served.things.behaviour["CreateThing"] = creating(served)
        await served.stub.CreateThing(Thing(text="a"), metadata=KEY)
        assert await rows(served) == 1

    async def test_a_call_that_its_client_gave_up_leaves_the_key_free(self, served: Served) -> None:
        served.things.behaviour["CreateThing"] = creating(
            served, meanwhile=lambda: asyncio.sleep(5)
        )
        with pytest.raises(grpc.aio.AioRpcError):
            await served.stub.CreateThing(Thing(text="a"), metadata=KEY, timeout=0.2)
        served.things.behaviour["CreateThing"] = creating(served)
        await served.stub.CreateThing(Thing(text="a"), metadata=KEY)
        assert await rows(served) == 1

    async def test_a_call_of_two_transactions_answers_again_what_it_said_in_the_first(
        self, served: Served
    ) -> None:
        async def two_steps(request: Any) -> Any:
            answer = await creating(served)(request)
            async with served.db.transaction() as tx:
                await INSERT.run(tx, new_id=uuid7(), new_text="")
            return answer

        served.things.behaviour["CreateThing"] = two_steps
        first = await served.stub.CreateThing(Thing(text="a"), metadata=KEY)
        assert await served.stub.CreateThing(Thing(text="a"), metadata=KEY) == first
        assert await rows(served) == 2


class TestRefusals:
    async def test_a_call_still_running_is_told_to_come_back(self, served: Served) -> None:
        done = asyncio.Event()
        started = asyncio.Event()

        async def meanwhile() -> None:
            started.set()
            await done.wait()

        async def first_call() -> Any:
            return await served.stub.CreateThing(Thing(text="a"), metadata=KEY)

        served.things.behaviour["CreateThing"] = creating(served, meanwhile=meanwhile)
        first = asyncio.create_task(first_call())
        await started.wait()
        with refused(StatusCode.ABORTED, "IDEMPOTENCY_KEY_IN_USE") as held:
            await served.stub.CreateThing(Thing(text="a"), metadata=KEY)
        assert held[0].retry_seconds == 1
        done.set()
        assert (await first).text == "a"
        assert await rows(served) == 1

    @pytest.mark.parametrize("key", ["", "x" * 256])
    async def test_what_is_no_key(self, served: Served, create: Any, key: str) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_INVALID"):
            await create(Thing(text="a"), metadata=(("idempotency-key", key),))
        assert await rows(served) == 0

    @pytest.mark.parametrize("key", ["", "\0", "a\tb", "schlüssel", "\x7f", "x" * 256])
    def test_what_is_no_key_if_it_could_be_sent(self, key: str) -> None:
        with pytest.raises(ServiceError) as raised:
            idempotency.claim(key, "/m", NOBODY, b"", [b"secret"], Thing)
        assert raised.value.reason == reason_pb2.REASON_IDEMPOTENCY_KEY_INVALID

    async def test_a_handler_that_forgets_to_say_its_answer(self, served: Served) -> None:
        async def forgetful(request: Any) -> Any:
            async with served.db.transaction() as tx:
                await INSERT.run(tx, new_id=uuid7(), new_text="")
            return request

        served.things.behaviour["CreateThing"] = forgetful
        with refused(StatusCode.INTERNAL, "INTERNAL"):
            await served.stub.CreateThing(Thing(), metadata=KEY)
        assert await rows(served) == 0


class TestScope:
    async def test_users_do_not_share_keys(self, served: Served, create: Any) -> None:
        one, other = User(), User()
        assert await create(Thing(text="a"), metadata=one(key="k")) != await create(
            Thing(text="a"), metadata=other(key="k")
        )

    async def test_a_user_keeps_theirs_with_a_new_token(self, served: Served, create: Any) -> None:
        user = User()
        assert await create(Thing(text="a"), metadata=user(key="k")) == await create(
            Thing(text="a"), metadata=user(key="k")
        )

    async def test_a_users_key_is_bound_to_the_request(self, served: Served, create: Any) -> None:
        user = User()
        await create(Thing(text="a"), metadata=user(key="k"))
        with refused(StatusCode.FAILED_PRECONDITION, "IDEMPOTENCY_KEY_REUSED") as held:
            await create(Thing(text="b"), metadata=user(key="k"))
        assert held[0].fields == {"idempotency-key": "was used with another request"}

    async def test_strangers_with_the_same_key_never_meet(
        self, served: Served, create: Any
    ) -> None:
        assert await create(Thing(text="a"), metadata=KEY) != await create(
            Thing(text="b"), metadata=KEY
        )

    async def test_methods_do_not_share_keys(self, served: Served, create: Any) -> None:
        served.things.behaviour["SignIn"] = creating(served)
        assert await create(Thing(text="a"), metadata=KEY) != await served.stub.SignIn(
            Thing(text="a"), metadata=KEY
        )

    async def test_a_service_has_its_own(self, served: Served) -> None:
        served.things.behaviour["ServiceThing"] = creating(served)
        call = served.stub.ServiceThing
        order, cart = (*service("order"), *KEY), (*service("cart"), *KEY)
        first = await call(Thing(text="a"), metadata=order)
        assert await call(Thing(text="a"), metadata=order) == first
        assert await call(Thing(text="a"), metadata=cart) != first

    async def test_reads_do_not_look_at_keys(self, served: Served) -> None:
        for text in ("a", "b"):
            assert (await served.stub.GetThing(Thing(text=text), metadata=KEY)).text == text

    @given(st.binary(max_size=20), st.binary(max_size=20))
    def test_the_fingerprint_tells_requests_apart(self, one: bytes, other: bytes) -> None:
        claims = [
            idempotency.claim("k", "/m", NOBODY, raw, [b"secret"], Thing) for raw in (one, other)
        ]
        assert (claims[0].fingerprint == claims[1].fingerprint) == (one == other)


@contextlib.asynccontextmanager
async def two(
    database: Database, one: Secrets, other: Secrets
) -> AsyncIterator[tuple[Served, Served]]:
    """Two processes, as it were, that know these secrets."""
    async with (
        serving(database, ready=always_ready, secrets=one) as first,
        serving(database, ready=always_ready, secrets=other) as second,
    ):
        yield first, second


class TestReplacedSecrets:
    """Processes on both sides of each step of a rotation know each other's keys."""

    OLD, NEW = "o" * 32, "n" * 32
    STEPS = ((OLD,), (OLD, NEW), (NEW, OLD), (NEW,))

    @pytest.mark.parametrize(("before", "after"), list(itertools.pairwise(STEPS)))
    @pytest.mark.parametrize("method", ["CreateThing", "ServiceThing"])
    async def test_a_call_repeated_at_the_other_process_happens_once(
        self, database: Database, method: str, before: Secrets, after: Secrets
    ) -> None:
        for pair in ((before, after), (after, before)):
            key = (("idempotency-key", str(uuid7())), *service("order"))
            async with two(database, *pair) as (first, second):
                made = await rows(first)
                answers = []
                for served in (first, second, first):
                    served.things.behaviour[method] = creating(served)
                    answers.append(
                        await getattr(served.stub, method)(Thing(text="a"), metadata=key)
                    )
                assert answers == answers[:1] * 3
                assert await rows(first) == made + 1

    async def test_another_request_is_refused_all_the_same(self, database: Database) -> None:
        before, after = self.STEPS[1:3]
        key = (*KEY, *service("order"))
        async with two(database, before, after) as (first, second):
            for served in (first, second):
                served.things.behaviour["ServiceThing"] = creating(served)
            await first.stub.ServiceThing(Thing(text="a"), metadata=key)
            with refused(StatusCode.FAILED_PRECONDITION, "IDEMPOTENCY_KEY_REUSED"):
                await second.stub.ServiceThing(Thing(text="b"), metadata=key)

    async def test_two_calls_at_the_same_time_are_one(self, database: Database) -> None:
        before, after = self.STEPS[1:3]
        async with two(database, before, after) as both:
            for served in both:
                served.things.behaviour["CreateThing"] = creating(
                    served, meanwhile=lambda: asyncio.sleep(0.2)
                )
            one, other = await asyncio.gather(
                *(served.stub.CreateThing(Thing(text="a"), metadata=KEY) for served in both)
            )
            assert one == other
            assert await rows(both[0]) == 1


class TestAnswersNotStored:
    async def test_unkeyed_transactions_run_each_time(
        self, served: Served, owner_connection: asyncpg.Connection
    ) -> None:
        async def sign_in(request: Any) -> Any:
            async with served.db.transaction(keyed=False) as tx:
                await INSERT.run(tx, new_id=uuid7(), new_text="")
            return Thing(text="token")

        served.things.behaviour["SignIn"] = sign_in
        for _ in range(2):
            await served.stub.SignIn(Thing(), metadata=KEY)
        assert await rows(served) == 2
        assert await owner_connection.fetchval("SELECT count(*) FROM kit.idempotency_keys") == 0

    async def test_a_request_is_stored_only_as_a_keyed_hash(
        self, served: Served, create: Any, owner_connection: asyncpg.Connection
    ) -> None:
        await create(Thing(id="canary"), metadata=KEY)
        [row] = await owner_connection.fetch("SELECT * FROM kit.idempotency_keys")
        assert b"canary" not in row["fingerprint"]
        assert "canary" not in repr(dict(row))
