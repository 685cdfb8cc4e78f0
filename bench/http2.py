"""A gRPC client that does nothing but load: unary calls over HTTP/2, many at once.

It knows just enough of RFC 9113 and RFC 7541 for servers that answer properly, and costs a tenth of
a real client, so that the server is what is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import cast

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
LARGEST_WINDOW = 2**31 - 1


class CallLane(asyncio.Protocol):
    """One connection for any number of calls of one method at a time."""

    def __init__(
        self, path: str, metadata: Mapping[str, str], ended: Callable[[CallLane, float, bool], None]
    ) -> None:
        """`ended` hears of each answer when its call began, and whether it is as expected."""
        self.closed = asyncio.get_running_loop().create_future()
        self.last = b""
        """The last answer's message, as it came."""
        self._ended = ended
        self._headers = _headers(path, metadata)
        self._unread = b""
        self._stream = 1
        # By stream: when it began, what is expected, what came.
        self._open: dict[int, tuple[float, bytes, bytearray]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        window = (4).to_bytes(2, "big") + LARGEST_WINDOW.to_bytes(4, "big")
        more = (LARGEST_WINDOW - 65535).to_bytes(4, "big")
        self._transport.write(
            PREFACE + _frame(SETTINGS, 0, 0, window) + _frame(WINDOW_UPDATE, 0, 0, more)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        for began, _, _ in self._open.values():
            self._ended(self, began, False)
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, request: bytes, expected: bytes, began: float) -> None:
        """Begin a call."""
        message = b"\0" + len(request).to_bytes(4, "big") + request
        self._open[self._stream] = (began, expected, bytearray())
        self._transport.write(
            _frame(HEADERS, END_HEADERS, self._stream, self._headers)
            + _frame(DATA, END_STREAM, self._stream, message)
        )
        self._stream += 2

    def close(self) -> None:
        self._open.clear()
        self._transport.close()

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

    def _end(self, stream: int) -> None:
        began, expected, came = self._open.pop(stream)
        self.last = bytes(came)
        # An error has no message, so what is expected cannot be in it.
        self._ended(self, began, expected in came)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


def _headers(path: str, metadata: Mapping[str, str]) -> bytes:
    """HPACK without any state: each field is a literal that is not to be remembered."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        **metadata,
    }
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())


def _text(text: str) -> bytes:
    """A string literal: its length as an integer of 7 bits and more (RFC 7541, 5.1), and itself."""
    length, encoded = len(text), bytearray()
    if length < 127:
        encoded.append(length)
    else:
        encoded.append(127)
        length -= 127
        while length >= 128:
            encoded.append(length % 128 + 128)
            length //= 128
        encoded.append(length)
    return bytes(encoded) + text.encode("ascii")
