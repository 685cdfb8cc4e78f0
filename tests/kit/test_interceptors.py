"""The layers around every method: their order, and what each does to real calls."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import grpc
import pytest
from grpc import StatusCode

from services.kit import call, errors, interceptors, metrics
from services.kit.errors import ServiceError
from services.kit.interceptors import Method
from shop.catalog.v1 import catalog_pb2
from shop.errors.v1 import reason_pb2
from shop.options.v1 import access_pb2
from tests.kit.serving import Served, authenticator, serving
from tests.kit.things import METHODS, SERVICE, Thing
from tests.kit.waiting import AT_ONCE, until
from tests.running import refused

CANARY = "canary-of-ours"


def method_named(name: str) -> Method:
    found = {method: (access, further) for method, access, further in METHODS}
    access, further = found[name]
    return Method(
        path=f"/{SERVICE}/{name}",
        name=name,
        access=access,
        ignores_credentials=further.get("ignores_credentials", False),
        checks_session=further.get("checks_session", False),
        request=Thing,
        answer=Thing,
    )


class TestStack:
    def test_the_layers_stand_in_this_order(self) -> None:
        names = [
            layer.__qualname__.partition(".")[0]
            for layer in interceptors.stack(authenticator(), secrets=[b"secret"])
        ]
        assert names == [
            "recall",
            "observe",
            "answer",
            "limit",
            "authenticate",
            "validate",
            "conditional",
            "idempotent",
            "retry",
        ]

    def test_the_first_is_outermost(self) -> None:
        def named(name: str) -> interceptors.Layer:
            def layer(method: Method, handler: Any) -> Any:
                return lambda request, context: [name, *handler(request, context)]

            return layer

        inside: Any = interceptors.compose(
            method_named("GetThing"),
            lambda request, context: [],  # type: ignore[arg-type, return-value]
            [named("a"), named("b")],
        )
        assert inside(None, None) == ["a", "b"]

    def test_what_a_proto_says_of_a_method_is_read(self) -> None:
        services = catalog_pb2.DESCRIPTOR.services_by_name
        descriptor = services["CatalogService"].methods_by_name["CreateProduct"]
        method = Method.of(descriptor)
        assert method.path == "/shop.catalog.v1.CatalogService/CreateProduct"
        assert method.access == access_pb2.ACCESS_STAFF
        assert method.request is catalog_pb2.CreateProductRequest
        assert method.answer is catalog_pb2.Product
        assert not method.reads

    def test_a_method_that_checks_sessions_needs_somebody_who_can(self) -> None:
        layer = interceptors.authenticate(authenticator())
        with pytest.raises(RuntimeError, match="checks sessions"):
            layer(method_named("SessionThing"), echo)


async def echo(request: Any, context: Any) -> Any:
    return request


class TestObserve:
    async def test_calls_are_counted_by_their_code(self, served: Served) -> None:
        def counted(code: str) -> float:
            return metrics.calls_of(f"/{SERVICE}/GetThing").by_code[code]

        before = counted("OK"), counted("UNAUTHENTICATED")
        await served.stub.GetThing(Thing())
        with refused(StatusCode.UNAUTHENTICATED, "TOKEN_INVALID"):
            await served.stub.GetThing(Thing(), metadata=(("authorization", "Bearer x"),))
        await until(
            lambda: (counted("OK"), counted("UNAUTHENTICATED")) == (before[0] + 1, before[1] + 1)
        )

    async def test_the_call_knows_its_request_id_and_deadline(self, served: Served) -> None:
        seen: list[call.Call] = []

        async def look(request: Any) -> Any:
            seen.append(call.current())
            return request

        served.things.behaviour["GetThing"] = look
        await served.stub.GetThing(Thing(), metadata=(("x-request-id", "r-1"),), timeout=3)
        await served.stub.GetThing(Thing())
        assert seen[0].request_id == "r-1"
        assert len(seen[1].request_id) == 36
        now = asyncio.get_running_loop().time()
        assert seen[0].deadline - now < 3.1
        assert 5 < seen[1].deadline - now <= interceptors.DEFAULT_SECONDS

    async def test_outside_of_a_call_there_is_none(self) -> None:
        assert call.current_or_none() is None
        with pytest.raises(LookupError):
            call.current()


class TestAnswer:
    @pytest.mark.parametrize(
        "exception",
        [
            ValueError(CANARY),
            KeyError(CANARY),
            asyncpg.UniqueViolationError(CANARY),
            RuntimeError(CANARY),
            OSError(CANARY),
            AssertionError(CANARY),
            RecursionError(CANARY),
            StopAsyncIteration(CANARY),
            grpc.aio.UsageError(CANARY),
        ],
        ids=lambda exception: type(exception).__name__,
    )
    async def test_an_exception_is_a_constant_text_at_once(
        self, served: Served, exception: Exception
    ) -> None:
        async def fail(request: Any) -> Any:
            raise exception

        served.things.behaviour["GetThing"] = fail
        began = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await served.stub.GetThing(Thing(), timeout=20)
        assert time.monotonic() - began < AT_ONCE
        assert raised.value.code() == StatusCode.INTERNAL
        assert raised.value.details() == "Something went wrong on our side."
        assert CANARY not in repr(raised.value.trailing_metadata())

    async def test_a_task_that_was_cancelled_inside_is_unavailable_at_once(
        self, served: Served
    ) -> None:
        async def interrupted(request: Any) -> Any:
            inner = asyncio.create_task(asyncio.sleep(5))
            inner.cancel()
            await inner

        served.things.behaviour["GetThing"] = interrupted
        began = time.monotonic()
        with refused(StatusCode.UNAVAILABLE, "INTERRUPTED") as held:
            await served.stub.GetThing(Thing(), timeout=20)
        assert time.monotonic() - began < AT_ONCE
        assert held[0].retry_seconds == 1

    async def test_an_error_of_ours_arrives_whole(self, served: Served) -> None:
        async def fail(request: Any) -> Any:
            raise errors.not_found("thing", request.id)

        served.things.behaviour["GetThing"] = fail
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND") as held:
            await served.stub.GetThing(Thing(id="7"))
        assert held[0].metadata == {"resource": "thing", "id": "7"}
        assert held[0].message == "There is no such thing."

    async def test_the_largest_error_arrives_whole(self, served: Served) -> None:
        wide = "\U0001f375" * 500

        async def fail(request: Any) -> Any:
            raise ServiceError(
                StatusCode.INVALID_ARGUMENT,
                reason_pb2.REASON_VALIDATION_FAILED,
                wide,
                metadata={"a": wide, "b": wide},
                violations=[errors.FieldViolation(f"f{n}", wide) for n in range(20)],
            )

        served.things.behaviour["GetThing"] = fail
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as held:
            await served.stub.GetThing(Thing())
        assert len(held[0].fields) > 5


class TestLimit:
    async def test_a_call_without_a_deadline_gets_one(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(interceptors, "DEFAULT_SECONDS", 0.2)
        hanging = Hanging(served)
        with refused(StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"):
            await served.stub.GetThing(Thing())
        assert hanging.ended.is_set()

    async def test_a_handler_that_takes_30_s_ends_with_its_deadline(self, served: Served) -> None:
        hanging = Hanging(served)
        began = time.monotonic()
        with refused(StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"):
            await served.stub.GetThing(Thing(), timeout=2)
        await until(hanging.ended.is_set)
        assert time.monotonic() - began < 2 + AT_ONCE

    async def test_a_call_that_is_cancelled_is_cancelled_here_too(self, served: Served) -> None:
        hanging = Hanging(served)
        running = served.stub.GetThing(Thing(), timeout=20)
        await until(lambda: hanging.started == 1)
        running.cancel()
        await until(hanging.ended.is_set)

    async def test_too_many_at_once_are_refused_at_once(self) -> None:
        async with serving(concurrent_rpcs=3) as served:
            hanging = Hanging(served)
            held = [served.stub.GetThing(Thing(), timeout=20) for _ in range(3)]
            await until(lambda: hanging.started == 3)
            began = time.monotonic()
            with refused(StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED") as refusal:
                await served.stub.CreateThing(Thing(), timeout=20)
            assert time.monotonic() - began < AT_ONCE
            assert refusal[0].retry_seconds == 1
            for running in held:
                running.cancel()
            await until(lambda: in_flight() == 0)
            await served.stub.CreateThing(Thing())

    async def test_those_that_run_are_counted(self) -> None:
        async with serving() as served:
            Hanging(served)
            running = served.stub.GetThing(Thing(), timeout=20)
            await until(lambda: in_flight() == 1)
            running.cancel()
            await until(lambda: in_flight() == 0)


def in_flight() -> float:
    """What Prometheus would read."""
    return next(iter(metrics.RPC_IN_FLIGHT.collect())).samples[0].value


class Hanging:
    """Has GetThing take 30 s; knows how many began, and whether one was ended."""

    def __init__(self, served: Served) -> None:
        self.started = 0
        self.ended = asyncio.Event()
        served.things.behaviour["GetThing"] = self

    async def __call__(self, request: Any) -> Any:
        self.started += 1
        try:
            await asyncio.sleep(30)
        finally:
            self.ended.set()


class TestValidate:
    async def test_a_request_that_breaks_a_rule_does_not_reach_the_handler(
        self, served: Served
    ) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as held:
            await served.stub.CreateThing(Thing(text="a\0b"))
        assert held[0].fields == {"text": "must not hold the character U+0000"}
