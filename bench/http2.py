"""A gRPC client that does nothing but load: unary calls over HTTP/2, many at once.

It knows just enough of RFC 9113 and RFC 7541 for servers that answer properly, and costs a tenth of
a real client, so that the server is what is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
LARGEST_WINDOW = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request's body, and what its answer has to hold."""

    body: bytes
    expected: bytes


class Calls(asyncio.Protocol):
    """Calls one method again and again, `at_once` at a time, until `finish`."""

    def __init__(self, path: str, exchanges: Sequence[Exchange], at_once: int) -> None:
        self.microseconds: list[int] = []
        self.wrong = 0
        self.closed = asyncio.get_running_loop().create_future()
        self._exchanges = exchanges
        self._at_once = at_once
        self._headers = _headers(path)
        self._unread = b""
        self._stream = 1
        self._finishing = False
        # By stream: when it began, what is expected, what came.
        self._open: dict[int, tuple[float, bytes, bytearray]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        window = (4).to_bytes(2, "big") + LARGEST_WINDOW.to_bytes(4, "big")
        more = (LARGEST_WINDOW - 65535).to_bytes(4, "big")
        self._transport.write(
            PREFACE + _frame(SETTINGS, 0, 0, window) + _frame(WINDOW_UPDATE, 0, 0, more)
        )
        for _ in range(self._at_once):
            self._call()

    def finish(self) -> None:
        """Begin no more calls; those that are open are answered."""
        self._finishing = True
        if not self._open:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.wrong += len(self._open)
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        data = self._unread + data
        at = 0
        while len(data) - at >= 9:
            length = int.from_bytes(data[at : at + 3], "big")
            end = at + 9 + length
            if end > len(data):
                break
            stream = int.from_bytes(data[at + 5 : at + 9], "big")
            self._frame(data[at + 3], data[at + 4], stream, data[at + 9 : end])
            at = end
        self._unread = data[at:]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            self._open[stream][2].extend(payload)
            # The connection's window is given back at once, so that it never closes.
            if payload:
                size = len(payload).to_bytes(4, "big")
                self._transport.write(_frame(WINDOW_UPDATE, 0, 0, size))
        elif kind == PING and not flags & ACK:
            self._transport.write(_frame(PING, ACK, 0, payload))
        elif kind == SETTINGS and not flags & ACK:
            self._transport.write(_frame(SETTINGS, ACK, 0, b""))
        elif kind == GOAWAY:
            self._transport.close()
        if stream and (kind == RESET or (kind in (DATA, HEADERS) and flags & END_STREAM)):
            self._end(stream)

    def _call(self) -> None:
        number = self._stream // 2
        exchange = self._exchanges[number % len(self._exchanges)]
        message = b"\0" + len(exchange.body).to_bytes(4, "big") + exchange.body
        self._open[self._stream] = (time.perf_counter(), exchange.expected, bytearray())
        self._transport.write(
            _frame(HEADERS, END_HEADERS, self._stream, self._headers)
            + _frame(DATA, END_STREAM, self._stream, message)
        )
        self._stream += 2

    def _end(self, stream: int) -> None:
        began, expected, came = self._open.pop(stream)
        self.microseconds.append(int((time.perf_counter() - began) * 1_000_000))
        # An error has no message, so what is expected cannot be in it.
        self.wrong += expected not in came
        if not self._finishing:
            self._call()
        elif not self._open:
            self._transport.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


def _headers(path: str) -> bytes:
    """HPACK without any state: each field is a literal that is not to be remembered."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())


def _text(text: str) -> bytes:
    assert len(text) < 127
    return bytes((len(text),)) + text.encode("ascii")
