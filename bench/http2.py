"""A gRPC client that does nothing but load: unary calls over HTTP/2, many at once.

It knows just enough of RFC 9113 and RFC 7541 for servers that answer properly, and costs a tenth of
a real client, so that the server is what is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from hpack import Decoder
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from bench.keys import KEY
from bench.outcome import Outcome

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE = 1, 4
LARGEST_WINDOW = 2**31 - 1
TOLD = (b"grpc-status", b"grpc-message")


class CallLane(asyncio.Protocol):
    """One connection for any number of calls of one method at a time."""

    def __init__(
        self,
        path: str,
        metadata: Mapping[str, str],
        ended: Callable[[CallLane, float, Outcome], None],
        refusals: Sequence[bytes] = (),
    ) -> None:
        """`ended` hears of each answer when its call began, and what it was.

        `refusals` are texts in the metadata of an error that make it one.
        """
        self.closed = asyncio.get_running_loop().create_future()
        self._ended = ended
        self._headers = _headers(path, metadata)
        self._refusals = [form for text in refusals for form in (text, _compressed(text))]
        self._unread = b""
        self._stream = 1
        # By stream: when it began, what is expected, what came.
        self._open: dict[int, tuple[float, bytes, bytearray]] = {}
        self._last = b""

    @property
    def said(self) -> str:
        """Status and message of the last answer."""
        if not self._last:
            return "nothing"
        fields = Decoder().decode(self._last, raw=True)
        told = sorted(bytes(value) for name, value in fields if name in TOLD)
        return b" ".join(told).decode()  # the number first

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # Without a table, each block of headers can be read by itself.
        settings = _setting(INITIAL_WINDOW_SIZE, LARGEST_WINDOW) + _setting(HEADER_TABLE_SIZE, 0)
        more = (LARGEST_WINDOW - 65535).to_bytes(4, "big")
        self._transport.write(
            PREFACE + _frame(SETTINGS, 0, 0, settings) + _frame(WINDOW_UPDATE, 0, 0, more)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._last = b""
        for began, _, _ in self._open.values():
            self._ended(self, began, Outcome.WRONG)
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, request: bytes, expected: bytes, began: float, key: bytes) -> None:
        """Begin a call; `key` takes its place in the metadata."""
        message = b"\0" + len(request).to_bytes(4, "big") + request
        self._open[self._stream] = (began, expected, bytearray())
        headers = self._headers.replace(KEY, key, 1)
        self._transport.write(
            _frame(HEADERS, END_HEADERS, self._stream, headers)
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
            self._end(stream, payload if kind == HEADERS else b"")

    def _end(self, stream: int, headers: bytes) -> None:
        began, expected, came = self._open.pop(stream)
        self._last = headers
        # An error has no message, so what is expected cannot be in it.
        if expected in came:
            outcome = Outcome.RIGHT
        elif any(text in headers for text in self._refusals):
            outcome = Outcome.REFUSED
        else:
            outcome = Outcome.WRONG
        self._ended(self, began, outcome)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


def _setting(name: int, value: int) -> bytes:
    return name.to_bytes(2, "big") + value.to_bytes(4, "big")


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


def _compressed(text: bytes) -> bytes:
    """A string by Huffman's code (RFC 7541, 5.2), as most servers send them."""
    encoder = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
    return bytes(encoder.encode(text))
