"""Traces by OpenTelemetry: a span for each call that is answered or made, statement and delivery.

Spans tell methods, statuses, reasons, request ids and the text of SQL. They hold no message, no
argument of SQL and no text of an exception: those may quote what customers typed.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import grpc
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.typing import EventDict, WrappedLogger

from services.kit import call, errors, failures
from services.kit.ids import request_id
from services.kit.interceptors import SERVER_FAULTS
from services.kit.methods import Handler, Method
from services.kit.tracing import Tracing

HEADER = "traceparent"
# At the end of a process: a collector that is away must not hold it up.
LAST_SECONDS = 2.0
# The semantic conventions of OpenTelemetry count these as errors of the one who answers.
FAULTS = SERVER_FAULTS | {
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNIMPLEMENTED,
}

_TABLE = r"[\"\w]+\.[\"\w]+"
_VERBS = re.compile(
    rf"\b(INSERT) INTO ({_TABLE})|\b(UPDATE) ({_TABLE})"
    rf"|\b(SELECT|DELETE)\b.*?\s(?:FROM|JOIN) ({_TABLE})",
    re.DOTALL,
)
_context = TraceContextTextMapPropagator()


def open_traces(service: str) -> Traces:
    """Traces that are sent as OpenTelemetry's environment variables say, by OTLP over HTTP."""
    return Traces(service, OTLPSpanExporter())


class Traces(Tracing):
    """The traces of one process."""

    def __init__(self, service: str, exporter: SpanExporter) -> None:
        # The variable that names a service would give all of them the same name.
        named = {"service.name": service, "service.namespace": "shop"}
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("shop")
        self.layers = (self._answering,)
        self.on_query = self._statement

    def _answering(self, method: Method, handler: Handler) -> Handler:
        name, told = _rpc(method.path)

        async def traced(request: Any, grpc_context: Any) -> Any:
            metadata = call.metadata()
            parent = _read(metadata.get(HEADER, ""))
            with self._span(name, SpanKind.SERVER, told, parent) as span:
                code = grpc.StatusCode.CANCELLED  # unless it comes to an end
                try:
                    answer = await handler(request, grpc_context)
                    code = grpc.StatusCode.OK
                except grpc.aio.AbortError:
                    code = grpc.StatusCode.UNKNOWN
                    raise
                else:
                    return answer
                finally:
                    current = call.current_or_none()  # what is remembered is answered without
                    sent = metadata.get("x-request-id")
                    id = request_id(sent) if current is None else current.request_id
                    span.set_attribute("shop.request_id", id)
                    if current is not None and current.refusal is not None:
                        code = current.refusal.code
                        span.set_attribute("shop.reason", errors.name(current.refusal.reason))
                    _finish(span, code, code in FAULTS)

        return traced

    def asking(self, path: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        """Each call becomes a span of what is being done, if something is."""
        name, told = _rpc(path)

        async def traced(request: Any, *, metadata: Any = (), **options: Any) -> Any:
            if not self.traceparent():
                return await ask(request, metadata=metadata, **options)
            with self._span(name, SpanKind.CLIENT, told) as span:
                sent = (*metadata, (HEADER, self.traceparent()))
                code = grpc.StatusCode.CANCELLED
                try:
                    answer = await ask(request, metadata=sent, **options)
                    code = grpc.StatusCode.OK
                except grpc.aio.AioRpcError as error:
                    code = error.code()
                    raise
                except TimeoutError:
                    code = grpc.StatusCode.DEADLINE_EXCEEDED
                    raise
                else:
                    return answer
                finally:
                    _finish(span, code, code is not grpc.StatusCode.OK)

        return traced

    @contextmanager
    def calling(self, name: str) -> Iterator[None]:
        """A span of what is being done, if something is."""
        if not self.traceparent():
            yield
            return
        with self._span(name, SpanKind.CLIENT, {}) as span, _failing(span):
            yield

    def traceparent(self) -> str:
        """The current span."""
        carrier: dict[str, str] = {}
        _context.inject(carrier)
        return carrier.get(HEADER, "")

    @contextmanager
    def delivering(self, topic: str, attempt: int, traceparent: str) -> Iterator[None]:
        """A span under that of the call whose commit promised the delivery."""
        told = {"messaging.destination.name": topic, "shop.attempt": attempt}
        parent = _read(traceparent)
        name = f"deliver {topic}"
        with self._span(name, SpanKind.CONSUMER, told, parent) as span, _failing(span):
            yield

    def _statement(self, record: Any) -> None:
        """A statement has ended: asyncpg tells of it in the context in which it was run.

        It does so a moment later, when what asked may have ended as well.
        """
        asked = trace.get_current_span().get_span_context()
        if not (asked.is_valid and asked.trace_flags.sampled):
            return  # looking around, as background work does all the time, is nobody's call
        ended = time.time_ns()
        name = _summary(record.query)
        span = self._tracer.start_span(
            name,
            kind=SpanKind.CLIENT,
            attributes={
                "db.system.name": "postgresql",
                "db.query.summary": name,
                "db.query.text": record.query,
            },
            start_time=ended - int(record.elapsed * 1e9),
        )
        if record.exception is not None:
            span.set_attribute("error.type", type(record.exception).__name__)
            span.set_status(StatusCode.ERROR)
        span.end(ended)

    @contextmanager
    def _span(
        self,
        name: str,
        kind: SpanKind,
        told: dict[str, Any],
        parent: context.Context | None = None,
    ) -> Iterator[Span]:
        # Exceptions are not recorded: their texts may quote anything.
        with self._tracer.start_as_current_span(
            name,
            parent,
            kind=kind,
            attributes=told,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield span

    def end(self) -> None:
        """Send what has not been sent, for 2 s at most."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(LAST_SECONDS)


def log_ids(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Have a log line say to which trace it belongs."""
    now = trace.get_current_span().get_span_context()
    if now.is_valid:
        event["trace_id"] = trace.format_trace_id(now.trace_id)
        event["span_id"] = trace.format_span_id(now.span_id)
    return event


def _rpc(path: str) -> tuple[str, dict[str, Any]]:
    """The name and the attributes of the spans of a method."""
    name = path.removeprefix("/")
    service, _, method = name.partition("/")
    return name, {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}


@lru_cache(1000)
def _summary(sql: str) -> str:
    """A statement in few words: its first verb and table."""
    found = _VERBS.search(sql)
    return " ".join(filter(None, found.groups())) if found else sql.split(maxsplit=1)[0].rstrip(";")


def _read(traceparent: str) -> context.Context:
    """The context to start a span in: after `traceparent`, or anew where that says nothing."""
    return _context.extract({HEADER: traceparent}, context.Context())


def _finish(span: Span, code: grpc.StatusCode, is_error: bool) -> None:
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if is_error:
        span.set_attribute("error.type", code.name)
        span.set_status(StatusCode.ERROR)


@contextmanager
def _failing(span: Span) -> Iterator[None]:
    """Have the span say what failed, by its kind alone."""
    try:
        yield
    except (Exception, asyncio.CancelledError) as error:
        span.set_attribute("error.type", failures.kind(error))
        span.set_status(StatusCode.ERROR)
        raise
