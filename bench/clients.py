"""A REST client that keeps its connection and does little else, so that the shop is measured."""

from __future__ import annotations

import asyncio


class Rest:
    """One connection to the edge, for one caller; one request at a time."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._host, self._port = host, port
        self._always = f"host: {host}:{port}\r\nauthorization: Bearer {token}\r\n"

    async def __aenter__(self) -> Rest:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def send(self, method: str, path: str, body: str = "") -> bytes:
        """The body of a 2xx answer. Raises RuntimeError with that of any other."""
        content = body.encode()
        head = f"{method} {path} HTTP/1.1\r\n{self._always}content-type: application/json\r\n"
        self._writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        status, *fields = (await self._reader.readuntil(b"\r\n\r\n")).decode("ascii").splitlines()
        lengths = [line[15:] for line in fields if line.lower().startswith("content-length:")]
        answer = await self._reader.readexactly(int(lengths[0]))
        if not status.startswith("HTTP/1.1 2"):
            raise RuntimeError(f"{method} {path}: {status}: {answer.decode()}")
        return answer
