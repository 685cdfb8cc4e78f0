"""Clients that are slow on purpose, or break off what they begin (promises E1 and E2)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest

from cli.topology import Address
from tests.edge.conftest import Shop, running
from tests.edge.h2 import HEADERS, PREFACE, RESET, SETTINGS, frame, request_headers

SLOW_HEADERS = b"GET /api/products HTTP/1.1\r\nx: "
SLOW_BODY = b"POST /api/users HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\n\r\n{"
OF_EACH = 250
CONNECTIONS, STREAMS = 20, 2000


@pytest.fixture(scope="module")
async def besieged(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """An edge of its own: what others ask of it must not be among the honest calls."""
    async with running(tmp_path_factory.mktemp("floods")) as shop:
        yield shop


class Honest:
    """Calls, one after another, for as long as the block lasts; the last ones are waited for."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0

    async def __aenter__(self) -> Honest:
        self._over = False
        self._task = asyncio.create_task(self._call())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await self._task

    async def _call(self) -> None:
        while not self._over:
            began = time.monotonic()
            answer = await self._shop.rest("GET", "/api/products/7")
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.statuses[answer.status_code] += 1
            new = await self._shop.rest("POST", "/api/users", json={"email": "a"})
            self.statuses[new.status_code] += 1
            await asyncio.sleep(0.02)


async def test_slow_clients_are_cut_off_and_harm_nobody(besieged: Shop) -> None:
    """E1: headers have five seconds, bodies ten; 500 at once, and honest calls go on."""

    async def send(begin: bytes, seconds: int) -> tuple[float, bytes]:
        where = besieged.edge.listen
        began = time.monotonic()
        reader, writer = await asyncio.open_connection(where.host, where.port)
        writer.write(begin)
        for _ in range(seconds - 2):  # a byte now and then does not help them
            await asyncio.sleep(1)
            writer.write(b"x")
        answer = await reader.read()
        await _close(writer)
        return time.monotonic() - began, answer

    async with asyncio.timeout(60), Honest(besieged) as honest:
        headers, bodies = await asyncio.gather(
            asyncio.gather(*(send(SLOW_HEADERS, 5) for _ in range(OF_EACH))),
            asyncio.gather(*(send(SLOW_BODY, 10) for _ in range(OF_EACH))),
        )
    for seconds, cut in ((5, headers), (10, bodies)):
        assert seconds - 1 < min(took for took, _ in cut)
        assert max(took for took, _ in cut) < seconds + 10
        for _, answer in cut:
            head, _, text = answer.partition(b"\r\n\r\n")
            assert b" 408 " in head.splitlines()[0]
            refusal = json.loads(text)
            assert (refusal["code"], refusal["details"][0]["reason"]) == (4, "DEADLINE_EXCEEDED")
    assert honest.statuses.total() > 100
    assert honest.statuses.keys() == {httpx.codes.OK}
    assert len(besieged.users.calls) + len(besieged.catalog.calls) == honest.statuses.total()


async def test_rapid_resets_harm_nobody(besieged: Shop) -> None:
    """E2 (CVE-2023-44487): streams that are broken off as soon as they are begun."""
    async with asyncio.timeout(60), Honest(besieged) as honest:
        besieged.catalog.forget()
        cut = await asyncio.gather(*(_reset(besieged.edge.listen) for _ in range(CONNECTIONS)))
        reached = len(besieged.catalog.calls)
        while honest.statuses.total() < 50:
            await asyncio.sleep(0.1)
    assert all(cut), "a connection that only resets is closed"
    assert reached < CONNECTIONS * STREAMS / 20 + honest.statuses.total()
    assert honest.statuses.keys() == {httpx.codes.OK}


async def _reset(where: Address) -> bool:
    """Begin and break off; whether the edge closed the connection because of it."""
    reader, writer = await asyncio.open_connection(where.host, where.port)
    block = request_headers("GET", "/api/products/7", str(where))
    cancel = (8).to_bytes(4, "big")
    try:
        writer.write(PREFACE + frame(SETTINGS, 0, 0))
        for number in range(STREAMS):
            stream = 2 * number + 1
            writer.write(frame(HEADERS, 5, stream, block) + frame(RESET, 0, stream, cancel))
            if number % 50 == 0:
                await writer.drain()
                await asyncio.sleep(0)
        async with asyncio.timeout(20):
            while await reader.read(65536):
                pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    finally:
        await _close(writer)
    return True


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
