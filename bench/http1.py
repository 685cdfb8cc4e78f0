"""REST over HTTP/1.1 that does nothing but load: one request at a time per connection.

It costs a tenth of what a real client costs, so that the server is what is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from bench.keys import KEY
from bench.outcome import Outcome

LONGEST_SAID = 1_000


class RestLane(asyncio.Protocol):
    """A kept connection; a request is sent as it is, head and body."""

    def __init__(
        self,
        ended: Callable[[RestLane, float, Outcome], None],
        refusals: Sequence[bytes] = (),
    ) -> None:
        """`ended` hears of each answer when its request began, and what it was.

        `refusals` are texts in the body of an error that make it one.
        """
        self.closed = asyncio.get_running_loop().create_future()
        self._last = b""
        self._ended = ended
        self._refusals = refusals
        self._unread = b""
        self._expected: bytes | None = None
        self._began = 0.0

    @property
    def said(self) -> str:
        """The last answer, or its beginning."""
        return self._last[:LONGEST_SAID].decode(errors="replace") or "nothing"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._expected is not None:
            self._expected, self._last = None, b""
            self._ended(self, self._began, Outcome.WRONG)
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, request: bytes, expected: bytes, began: float, key: bytes) -> None:
        """Begin an exchange; the last one has ended. On a connection that is lost it is wrong.

        `key` takes its place in the request.
        """
        if self._transport.is_closing():
            asyncio.get_running_loop().call_soon(self._ended, self, began, Outcome.WRONG)
            return
        self._expected, self._began = expected, began
        self._transport.write(request.replace(KEY, key, 1))

    def close(self) -> None:
        self._expected = None
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._unread += data
        head, found, rest = self._unread.partition(b"\r\n\r\n")
        if not found or not _is_whole(head, rest):
            return
        self._last, self._unread = self._unread, b""
        expected, self._expected = self._expected, None
        if head.startswith(b"HTTP/1.1 2"):
            is_right = expected is not None and expected in rest
            outcome = Outcome.RIGHT if is_right else Outcome.WRONG
        else:
            is_refusal = any(text in rest for text in self._refusals)
            outcome = Outcome.REFUSED if is_refusal else Outcome.WRONG
        self._ended(self, self._began, outcome)


def request(method: str, path: str, token: str = "", body: str = "") -> bytes:
    """A request as it goes over the wire, except for the host."""
    lines = [f"{method} {path} HTTP/1.1", "host: bench", "accept: application/json"]
    if token:
        lines.append(f"authorization: Bearer {token}")
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body.encode())}"]
    return "\r\n".join([*lines, "", body]).encode()


def keyed(request: bytes) -> bytes:
    """The request with room for an idempotency key, which each sending fills in."""
    return request.replace(b"\r\n", b"\r\nidempotency-key: " + KEY + b"\r\n", 1)


def _is_whole(head: bytes, body: bytes) -> bool:
    """Whether all of the body has come; what is compressed comes in chunks (RFC 9112, 7.1)."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line[15:])
        if line == b"transfer-encoding: chunked":
            return body.endswith(b"\r\n0\r\n\r\n")
    raise ValueError("the answer does not say where it ends")
