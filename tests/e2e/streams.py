"""Streams of server-sent events, as a browser's EventSource reads them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from tests.visitors import Visitor


class Stream:
    """An answer that goes on: its head, and its events one by one."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status_code = answer.status_code
        self.headers = answer.headers
        self._lines = answer.aiter_lines()

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self._events()

    async def _events(self) -> AsyncIterator[dict[str, Any]]:
        async for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "data":
                yield json.loads(value)
            else:
                assert line == ""

    async def next(self) -> dict[str, Any]:
        """The next event."""
        return await anext(self._events())


@contextlib.asynccontextmanager
async def streaming(
    who: Visitor,
    path: str,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[httpx.Response]:
    """An answer of which only the head has been read. Ended with the block."""
    signed = {"authorization": f"Bearer {who.token}"} if who.token else {}
    async with who.http.stream(
        "GET", path, params=query, headers=signed | dict(headers or {})
    ) as answer:
        yield answer


async def first_event(
    who: Visitor,
    path: str,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """The refusal of a stream as it is, or an answer with the first event of it alone."""
    async with streaming(who, path, query, headers) as answer:
        if answer.headers["content-type"] != "text/event-stream":
            await answer.aread()
            return answer
        event = await Stream(answer).next()
        return httpx.Response(answer.status_code, headers=answer.headers, json=event)
