"""Traces: what spans tell and what they do not, how they hang together, and that off is off."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import pytest
from grpc import StatusCode
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.kit import interceptors, tracing
from services.kit.db import Database
from services.kit.errors import unavailable
from services.kit.outbox import Outbox, Relay
from services.kit.traces import Traces
from tests import callers
from tests.kit.schema import metadata
from tests.kit.serving import authenticator, serving
from tests.kit.test_clients import client
from tests.kit.things import RenderedThing, Thing
from tests.running import refused

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("x-request-id", "r-9"))
UNSAMPLED = (("traceparent", f"00-{TRACE}-{PARENT}-00"),)
OUTBOX = Outbox(metadata)


class Taken:
    """Traces that are kept here."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.traces = Traces("things", self._exporter)

    def spans(self) -> Sequence[ReadableSpan]:
        """Those that have ended, in the order of their ends."""
        self.traces._provider.force_flush()
        return self._exporter.get_finished_spans()

    def named(self) -> dict[str, ReadableSpan]:
        """The same by name."""
        return {span.name: span for span in self.spans()}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Taken]:
    """This process takes traces."""
    taken = Taken()
    monkeypatch.setattr(tracing, "_tracing", taken.traces)
    yield taken
    taken.traces.end()


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent(span: ReadableSpan) -> str:
    return "" if span.parent is None else f"{span.parent.span_id:016x}"


def id_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.span_id:016x}"


class TestOff:
    def test_nothing_of_it_is_loaded_and_nothing_is_put_around_calls(self) -> None:
        code = (
            "import sys; from services.kit import process, tracing; import services.order.__main__;"
            "assert type(tracing.configure('order', {})) is tracing.Tracing;"
            "assert tracing.configure('order', {'OTEL_SDK_DISABLED': 'true',"
            " 'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://127.0.0.1:1'}) is tracing.current();"
            "print([name for name in sys.modules if name.startswith('opentelemetry')])"
        )
        said = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        assert said.stdout == "[]\n"
        layers = interceptors.stack(authenticator(), secrets=[callers.SECRET.encode()])
        assert layers[0] is interceptors.recall
        off = tracing.Tracing()
        assert off.asking("/a.B/C", told) is told
        assert off.on_query is None

    def test_without_its_packages_it_says_what_to_install(self) -> None:
        code = (
            "import sys; sys.modules['opentelemetry'] = None; from services.kit import tracing;"
            "tracing.configure('order', {'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://127.0.0.1:1'})"
        )
        said = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
        )
        assert "install requirements-tracing.txt" in said.stderr.splitlines()[-1]


class TestCalls:
    async def test_a_trace_goes_on_through_services(self, taken: Taken) -> None:
        async with serving() as outer, serving() as inner, client(inner) as stub:

            async def pass_on(request: Any) -> Any:
                return await stub.ServiceThing(request)

            outer.things.behaviour["GetThing"] = pass_on
            await outer.stub.GetThing(Thing(), metadata=SAMPLED)
        answering, asking, answered = reversed(taken.spans())
        assert [answering.kind.name, asking.kind.name, answered.kind.name] == [
            "SERVER",
            "CLIENT",
            "SERVER",
        ]
        assert parent(answering) == PARENT
        assert parent(asking) == id_of(answering)
        assert parent(answered) == id_of(asking)
        assert told(answered)["shop.request_id"] == told(answering)["shop.request_id"] == "r-9"
        assert told(answered)["rpc.grpc.status_code"] == 0

    async def test_what_is_remembered_has_a_span_like_any_other(self, taken: Taken) -> None:
        remembered = RenderedThing.of(Thing(text="remembered"))
        async with serving(GetCachedThing=lambda raw: remembered) as served:
            await served.stub.GetCachedThing(Thing(), metadata=SAMPLED)
        (span,) = taken.spans()
        assert parent(span) == PARENT
        assert told(span)["shop.request_id"] == "r-9"
        assert told(span)["rpc.grpc.status_code"] == 0

    async def test_what_is_not_sampled_costs_no_span_and_stays_so(self, taken: Taken) -> None:
        seen: list[str] = []
        async with serving() as outer, serving() as inner, client(inner) as stub:

            async def pass_on(request: Any) -> Any:
                seen.append(taken.traces.traceparent())
                return await stub.ServiceThing(request)

            outer.things.behaviour["GetThing"] = pass_on
            await outer.stub.GetThing(Thing(), metadata=UNSAMPLED)
        assert taken.spans() == ()
        assert seen[0].startswith(f"00-{TRACE}-")
        assert seen[0].endswith("-00")

    @pytest.mark.parametrize("rubbish", ["", "00-0-0-01", "x" * 300, f"00-{'0' * 32}-{PARENT}-01"])
    async def test_a_header_that_says_nothing_begins_a_trace(
        self, taken: Taken, rubbish: str
    ) -> None:
        async with serving() as served:
            await served.stub.GetThing(Thing(), metadata=(("traceparent", rubbish),))
        (span,) = taken.spans()
        assert span.parent is None

    async def test_a_refusal_is_told_by_its_reason_alone(self, taken: Taken) -> None:
        async with serving() as served:

            async def refuse(_: Any) -> Any:
                raise unavailable("canary")

            async def break_down(_: Any) -> Any:
                raise ValueError("canary")

            served.things.behaviour["GetThing"] = refuse
            with refused(StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE"):
                await served.stub.GetThing(Thing(), metadata=SAMPLED)
            served.things.behaviour["GetThing"] = break_down
            with refused(StatusCode.INTERNAL, "INTERNAL"):
                await served.stub.GetThing(Thing(), metadata=SAMPLED)
        first, second = taken.spans()
        assert told(first)["shop.reason"] == "DEPENDENCY_UNAVAILABLE"
        assert told(first)["rpc.grpc.status_code"] == 14
        assert told(second)["error.type"] == "INTERNAL"
        assert not first.status.is_ok
        assert "canary" not in first.to_json() + second.to_json()


class TestStatements:
    async def test_they_are_spans_of_their_call_without_arguments(
        self, taken: Taken, url: str
    ) -> None:
        database = await Database.open(url, metadata, name="traces", on_query=taken.traces.on_query)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(database.close)
            served = await stack.enter_async_context(serving(database))

            async def write(request: Any) -> Any:
                async with database.transaction() as tx:
                    await tx.execute("SELECT pg_sleep(0.02), $1::text", "canary")
                with pytest.raises(asyncpg.InvalidTextRepresentationError):
                    async with database.connection() as connection:
                        await connection.fetchval("SELECT $1::text::int", "canary")
                return request

            served.things.behaviour["GetThing"] = write
            await served.stub.GetThing(Thing(), metadata=SAMPLED)
            async with database.connection() as connection:
                await connection.fetchval("SELECT 2")  # nobody's call
        call = taken.named()["shop.tests.v1.ThingService/GetThing"]
        statements = [span for span in taken.spans() if span is not call]
        names = [span.name for span in statements]
        assert names[0] == "BEGIN"
        assert {"SELECT", "COMMIT"} <= set(names)
        assert {parent(span) for span in statements} == {id_of(call)}
        slow = statements[1]
        assert slow.start_time is not None
        assert slow.end_time is not None
        assert slow.end_time - slow.start_time >= 20_000_000
        assert told(statements[-1])["error.type"] == "InvalidTextRepresentationError"
        assert "canary" not in "".join(span.to_json() for span in taken.spans())
        assert "SELECT 2" not in "".join(span.to_json() for span in taken.spans())


class TestOutbox:
    async def test_each_delivery_belongs_to_the_call_that_promised_it(
        self, taken: Taken, database: Database
    ) -> None:
        failures = [True]

        async def deliver(_: bytes) -> None:
            if failures and failures.pop():
                raise unavailable("canary")

        async with serving(database) as served:

            async def promise(request: Any) -> Any:
                async with database.transaction() as tx:
                    await OUTBOX.add(tx, "mail", b"")
                return request

            served.things.behaviour["GetThing"] = promise
            await served.stub.GetThing(Thing(), metadata=SAMPLED)
        relay = Relay(database, OUTBOX, {"mail": deliver})
        async with asyncio.timeout(30):
            while len(taken.spans()) < 3:
                await relay.deliver_due()
                await asyncio.sleep(0.05)
        call, first, second = taken.spans()
        assert parent(first) == parent(second) == id_of(call)
        assert [told(span)["shop.attempt"] for span in (first, second)] == [1, 2]
        assert told(first)["error.type"] == "DEPENDENCY_UNAVAILABLE"
        assert "canary" not in first.to_json()

    async def test_without_a_trace_a_row_has_none(self, database: Database) -> None:
        async with database.transaction() as tx:
            await OUTBOX.add(tx, "mail", b"")
        async with database.connection() as connection:
            (row,) = await OUTBOX.lease(connection, "mail")
        assert row["traceparent"] == ""
