"""A collector of traces: it takes OTLP over HTTP and keeps what comes, for tests to look at."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1 import trace_pb2

Kind = trace_pb2.Span.SpanKind


@dataclass(frozen=True)
class Span:
    """A span, and the service that it is of."""

    service: str
    name: str
    kind: Kind.ValueType
    id: str
    parent: str
    seconds: float
    told: dict[str, Any]
    is_error: bool


class Collector:
    """What has come so far, as it was sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.url = ""

    def export(self, trace_id: str, file: Path) -> None:
        """Write a trace as OTLP's JSON, which Jaeger and others open: ids are hexadecimal."""
        trace = trace_pb2.TracesData()
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                kept = trace.resource_spans.add(resource=resource.resource)
                for scope in resource.scope_spans:
                    spans = [span for span in scope.spans if span.trace_id.hex() == trace_id]
                    kept.scope_spans.add(scope=scope.scope).spans.extend(spans)
                if not any(scope.spans for scope in kept.scope_spans):
                    del trace.resource_spans[-1]
        told = json_format.MessageToDict(trace)
        for span in spans_of(told):
            for name in ("traceId", "spanId", "parentSpanId"):
                if name in span:
                    span[name] = base64.b64decode(span[name]).hex()
        file.write_text(json.dumps(told))

    def take(self) -> int:
        """How many spans have come since the last time; they are forgotten."""
        count = 0
        while self.bodies:
            request = ExportTraceServiceRequest.FromString(self.bodies.pop())
            for resource in request.resource_spans:
                count += sum(len(scope.spans) for scope in resource.scope_spans)
        return count

    def spans(self, trace_id: str) -> list[Span]:
        """The spans of a trace that have come, those that began first first."""
        found = []
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = _read(resource.resource.attributes)["service.name"]
                for scope in resource.scope_spans:
                    found += [(service, span) for span in scope.spans]
        found.sort(key=lambda pair: pair[1].start_time_unix_nano)
        return [_span(*pair) for pair in found if pair[1].trace_id.hex() == trace_id]


def spans_of(told: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The spans of a trace in OTLP's JSON."""
    for resource in told["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            yield from scope["spans"]


def _span(service: str, span: trace_pb2.Span) -> Span:
    return Span(
        service,
        span.name,
        span.kind,
        span.span_id.hex(),
        span.parent_span_id.hex(),
        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        _read(span.attributes),
        span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
    )


def _read(attributes: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value")
        for each in attributes
    }


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port, for the time of the block."""
    collector = Collector()

    class Take(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            collector.bodies.append(b"".join(self.pieces()))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def pieces(self) -> Iterator[bytes]:
            if length := self.headers["content-length"]:
                yield self.rfile.read(int(length))
                return
            while size := int(self.rfile.readline(), 16):  # Envoy sends chunks
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Take)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
