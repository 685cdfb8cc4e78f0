"""Calls to other services: who calls, for whom, under which id, and until when."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from services.kit import auth, call, clients
from services.kit.errors import unavailable
from shop.order.v1 import order_pb2_grpc
from tests import callers
from tests.callers import User
from tests.kit.serving import Served, serving
from tests.kit.things import SERVICE, Thing, ThingStub
from tests.kit.waiting import AT_ONCE
from tests.running import refused

# The wire has deadlines in few digits, rounded up.
ROUNDED_SECONDS = 0.011
CREDENTIAL = auth.ServiceCredential("order", callers.SECRET)


@contextlib.asynccontextmanager
async def client(*targets: Served, **options: Any) -> AsyncIterator[ThingStub]:
    """What a service calls another by."""
    target = ",".join(f"127.0.0.1:{served.server.port}" for served in targets)
    async with clients.connect(target, CREDENTIAL, **options) as channel:
        yield ThingStub(channel)


def left() -> float:
    """Seconds that the call being answered has."""
    return call.current().remaining()


@dataclass
class Seen:
    """A call as the service that answered it knew it, and the time it had then."""

    call: call.Call
    left: float


def watched(served: Served, name: str = "ServiceThing") -> list[Seen]:
    """The calls of a method."""
    seen: list[Seen] = []

    async def look(request: Any) -> Any:
        seen.append(Seen(call.current(), left()))
        return request

    served.things.behaviour[name] = look
    return seen


class TestMetadata:
    async def test_a_service_shows_its_credential(self) -> None:
        async with serving() as served, client(served) as stub:
            seen = watched(served)
            await stub.ServiceThing(Thing())
        assert seen[0].call.caller.service == "order"

    async def test_the_request_id_goes_with_the_call(self) -> None:
        async with serving() as outer, serving() as inner, client(inner) as stub:
            seen = watched(inner)

            async def pass_on(request: Any) -> Any:
                return await stub.ServiceThing(request)

            outer.things.behaviour["GetThing"] = pass_on
            await outer.stub.GetThing(Thing(), metadata=(("x-request-id", "r-9"),))
        assert seen[0].call.request_id == "r-9"

    async def test_metadata_of_the_call_itself_is_kept(self) -> None:
        async with serving() as served, client(served) as stub:
            seen = watched(served)
            await stub.ServiceThing(Thing(), metadata=(("idempotency-key", "k"),))
        assert seen[0].call.metadata["idempotency-key"] == "k"

    async def test_a_call_on_behalf_of_a_user_is_the_users(self) -> None:
        user = User()
        async with serving() as outer, serving() as inner, client(inner) as stub:
            seen = watched(inner, "TouchThing")

            async def pass_on(request: Any) -> Any:
                return await stub.TouchThing(request, metadata=clients.on_behalf_of_caller())

            outer.things.behaviour["TouchThing"] = pass_on
            outer.things.behaviour["GetThing"] = pass_on
            await outer.stub.TouchThing(Thing(), metadata=user())
            assert seen[0].call.caller.user_id == user.id
            with refused(StatusCode.INTERNAL, "INTERNAL"):
                await outer.stub.GetThing(Thing())


class TestDeadlines:
    async def test_without_a_call_that_is_answered_it_is_its_own(self) -> None:
        async with serving() as served, client(served, seconds=1.5) as stub:
            seen = watched(served)
            await stub.ServiceThing(Thing())
        assert 0.5 < seen[0].left < 1.5 + ROUNDED_SECONDS

    async def test_one_that_is_given_wins_over_its_own(self) -> None:
        async with serving() as served, client(served, seconds=1.5) as stub:
            seen = watched(served)
            await stub.ServiceThing(Thing(), timeout=9)
        assert seen[0].left > 5

    async def test_what_is_left_for_the_caller_is_the_most(self) -> None:
        outer_left: list[float] = []
        async with serving() as outer, serving() as inner, client(inner) as stub:
            seen = watched(inner)

            async def pass_on(request: Any) -> Any:
                outer_left.append(left())
                return await stub.ServiceThing(request)

            outer.things.behaviour["GetThing"] = pass_on
            await outer.stub.GetThing(Thing(), timeout=1.5)
        assert seen[0].left < outer_left[0] - clients.MARGIN_SECONDS + ROUNDED_SECONDS

    async def test_when_nothing_is_left_the_call_is_not_made(self) -> None:
        async with serving() as outer, serving() as inner, client(inner) as stub:
            seen = watched(inner)
            ended: list[BaseException] = []

            async def pass_on(request: Any) -> Any:
                call.current().deadline = asyncio.get_running_loop().time() + 0.01
                try:
                    return await stub.ServiceThing(request)
                except TimeoutError as error:
                    ended.append(error)
                    raise

            outer.things.behaviour["GetThing"] = pass_on
            with refused(StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"):
                await outer.stub.GetThing(Thing())
        assert ended
        assert not seen

    async def test_three_hops_end_within_the_first_ones_budget(self) -> None:
        ended = asyncio.Event()
        budgets: list[float] = []
        async with (
            serving() as first,
            serving() as second,
            serving() as third,
            client(second) as to_second,
            client(third) as to_third,
        ):

            async def one(request: Any) -> Any:
                budgets.append(left())
                return await to_second.ServiceThing(request)

            async def two(request: Any) -> Any:
                budgets.append(left())
                return await to_third.ServiceThing(request)

            async def three(request: Any) -> Any:
                budgets.append(left())
                try:
                    await asyncio.sleep(30)
                finally:
                    ended.set()

            first.things.behaviour["GetThing"] = one
            second.things.behaviour["ServiceThing"] = two
            third.things.behaviour["ServiceThing"] = three
            # The connections are there before the clock runs.
            await to_second.GetThing(Thing())
            await to_third.GetThing(Thing())
            await first.stub.CreateThing(Thing())

            began = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await first.stub.GetThing(Thing(), timeout=0.3)
            took = time.monotonic() - began
            await asyncio.wait_for(ended.wait(), AT_ONCE)
        assert raised.value.code() in (StatusCode.DEADLINE_EXCEEDED, StatusCode.UNAVAILABLE)
        # 0.35 s on an idle machine; far less than 30 s on any.
        assert took < 0.35 + AT_ONCE
        assert len(budgets) == 3
        assert all(
            later < earlier - clients.MARGIN_SECONDS + ROUNDED_SECONDS
            for earlier, later in pairwise(budgets)
        )


class TestRetries:
    @staticmethod
    def failing(served: Served, times: int) -> list[int]:
        tries: list[int] = []

        async def fail(request: Any) -> Any:
            tries.append(1)
            if len(tries) <= times:
                raise unavailable("not yet")
            return request

        served.things.behaviour["ServiceThing"] = fail
        return tries

    async def test_idempotent_methods_are_tried_again(self) -> None:
        async with (
            serving() as served,
            client(served, idempotent=[f"{SERVICE}/ServiceThing"]) as stub,
        ):
            tries = self.failing(served, 2)
            await stub.ServiceThing(Thing(), timeout=5)
        assert len(tries) == 3

    async def test_others_are_not(self) -> None:
        async with serving() as served, client(served, idempotent=[f"{SERVICE}/Other"]) as stub:
            tries = self.failing(served, 2)
            with refused(StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE"):
                await stub.ServiceThing(Thing(), timeout=5)
        assert len(tries) == 1


class TestAddresses:
    async def test_calls_are_spread_over_several(self) -> None:
        async with serving() as one, serving() as other, client(one, other) as stub:
            seen = watched(one), watched(other)
            async with asyncio.timeout(2 * AT_ONCE):
                while not (seen[0] and seen[1]):
                    await stub.ServiceThing(Thing())

    async def test_one_that_is_gone_is_unavailable_to_our_caller(self) -> None:
        async with serving() as gone:
            pass
        async with serving() as outer, client(gone, seconds=0.5) as stub:

            async def pass_on(request: Any) -> Any:
                return await stub.ServiceThing(request)

            outer.things.behaviour["GetThing"] = pass_on
            with refused(StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE"):
                await outer.stub.GetThing(Thing())


async def test_stubs_can_be_made_of_services_that_stream() -> None:
    """Even where nobody calls what streams: a stub makes all its methods at once."""
    async with clients.connect("127.0.0.1:1", CREDENTIAL) as channel:
        assert order_pb2_grpc.OrderServiceStub(channel).WatchOrder is not None
