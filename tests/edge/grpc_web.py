"""Just enough gRPC-Web for one call: a message in frames, and what comes back."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import httpx

from tests.edge.conftest import Shop

BINARY, TEXT = "application/grpc-web+proto", "application/grpc-web-text"
_TRAILERS = 0x80


@dataclass(frozen=True)
class Answer:
    """The messages, and the trailers, which are headers where nothing else came."""

    response: httpx.Response
    messages: list[bytes]
    trailers: dict[str, str]

    @property
    def status(self) -> str:
        """The gRPC status, a number."""
        return self.trailers["grpc-status"]


async def call(shop: Shop, path: str, message: bytes = b"", **headers: str) -> Answer:
    """One call, as a script in a browser makes it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = named.setdefault("content-type", BINARY)
    named.setdefault("accept", kind)
    framed = b"\0" + len(message).to_bytes(4, "big") + message
    if kind == TEXT:
        framed = base64.b64encode(framed)
    response = await shop.rest("POST", path, content=framed, headers=named)
    assert response.status_code == httpx.codes.OK, response.text
    assert response.headers["content-type"].startswith(kind)
    return _read(response, _decoded(response.content) if kind == TEXT else response.content)


def _decoded(text: bytes) -> bytes:
    """Pieces of base64, each padded by itself."""
    pieces = [text[at : at + 4] for at in range(0, len(text), 4)]
    return b"".join(map(base64.b64decode, pieces))


def _read(response: httpx.Response, body: bytes) -> Answer:
    messages, trailers = [], dict(response.headers)
    while body:
        length = int.from_bytes(body[1:5], "big")
        content, kind = body[5 : 5 + length], body[0]
        body = body[5 + length :]
        if kind & _TRAILERS:
            lines = [line.partition(":") for line in content.decode().splitlines()]
            trailers |= {name.strip().lower(): value.strip() for name, _, value in lines}
        else:
            messages.append(content)
    return Answer(response, messages, trailers)
