"""A collector that is away, silent or broken: no call waits for it, fails, or is remembered."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from cli.topology import free_port
from services.kit import tracing
from services.kit.traces import LAST_SECONDS, Traces
from tests.kit.serving import serving
from tests.kit.test_traces import SAMPLED
from tests.kit.things import Thing

CALLS, AT_ONCE = 2_400, 16
# By OpenTelemetry's own defaults: spans that wait, and seconds that the exporter tries.
QUEUE, EXPORT_SECONDS = 2048, 10


@contextlib.contextmanager
def away() -> Iterator[str]:
    """Nobody listens."""
    yield f"http://127.0.0.1:{free_port()}/v1/traces"


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """Somebody takes connections, and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1/traces"


@contextlib.contextmanager
def broken() -> Iterator[str]:
    """Somebody answers 503 to everything, slowly."""

    class Broken(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            time.sleep(0.2)
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("collector", [away, silent, broken])
async def test_calls_go_on_as_if_there_were_no_traces(
    collector: Callable[[], AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as url:
        traces = Traces("things", OTLPSpanExporter(url))
        monkeypatch.setattr(tracing, "_tracing", traces)
        (batches,) = traces._provider._active_span_processor._span_processors
        waiting = batches._batch_processor._queue  # type: ignore[attr-defined]
        seen, slowest = 0, 0.0
        async with serving() as served:

            async def call(number: int) -> None:
                nonlocal seen, slowest
                for _ in range(number):
                    began = time.monotonic()
                    assert (await served.stub.GetThing(Thing(text="a"), metadata=SAMPLED)).text
                    slowest = max(slowest, time.monotonic() - began)
                    seen = max(seen, len(waiting))

            await asyncio.gather(*(call(CALLS // AT_ONCE) for _ in range(AT_ONCE)))
        # A call that waited for the collector would have waited for as long as it is tried.
        assert slowest < EXPORT_SECONDS / 2
        # More spans than there is room for: the oldest are dropped.
        assert 0 < seen <= QUEUE < CALLS
        began = time.monotonic()
        await asyncio.to_thread(traces.end)
        assert time.monotonic() - began < LAST_SECONDS + EXPORT_SECONDS / 2
