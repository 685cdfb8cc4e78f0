"""A REST client that does nothing but load: GET over HTTP/1.1, one at a time per connection."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import cast

from bench.http2 import Exchange


class Gets(asyncio.Protocol):
    """Gets paths again and again until `finish`; the body of an exchange is its path."""

    def __init__(self, host: str, exchanges: Sequence[Exchange], first: int) -> None:
        self.microseconds: list[int] = []
        self.wrong = 0
        self.closed = asyncio.get_running_loop().create_future()
        self._host = host.encode("ascii")
        self._exchanges: Iterator[Exchange] = itertools.islice(
            itertools.cycle(exchanges), first, None
        )
        self._unread = b""
        self._finishing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._get()

    def finish(self) -> None:
        """Begin no more requests; the one that is open is answered."""
        self._finishing = True

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._finishing:
            self.wrong += 1
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        head, found, rest = self._unread.partition(b"\r\n\r\n")
        if not found:
            return
        if len(rest) < _length(head):
            return
        self.microseconds.append(int((time.perf_counter() - self._began) * 1_000_000))
        self.wrong += not head.startswith(b"HTTP/1.1 200 ") or self._expected not in rest
        self._unread = b""
        if self._finishing:
            self._transport.close()
        else:
            self._get()

    def _get(self) -> None:
        exchange = next(self._exchanges)
        self._expected = exchange.expected
        self._began = time.perf_counter()
        self._transport.write(
            b"GET " + exchange.body + b" HTTP/1.1\r\nhost: " + self._host + b"\r\n\r\n"
        )


def _length(head: bytes) -> int:
    """The content-length that an answer's head gives; answers of the edge always have one."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    raise ValueError("the answer has no content-length")
