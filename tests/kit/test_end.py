"""The end of a server: who has called by then is answered."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from services.kit.server import QUIET_SECONDS
from tests.kit.serving import serving
from tests.kit.waiting import AT_ONCE

CALLS = 50


async def test_calls_that_have_just_come_in_are_answered() -> None:
    """To gRPC those that no handler has yet are none: it would cancel them without a word."""
    async with serving(drain_seconds=2 * AT_ONCE) as served:
        method: Any = served.channel.unary_unary("/shop.tests.v1.ThingService/GetThing")
        await method(b"")  # the channel is connected
        await asyncio.sleep(2 * QUIET_SECONDS)
        calls = [asyncio.ensure_future(method(b"")) for _ in range(CALLS)]
        await asyncio.sleep(0)
        await served.server.stop()
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, BaseException)] == []


async def test_the_end_comes_although_calls_do_not_cease() -> None:
    async with serving(drain_seconds=0.3) as served:
        method: Any = served.channel.unary_unary("/shop.tests.v1.ThingService/GetThing")
        over = asyncio.Event()

        async def call() -> None:
            while not over.is_set():
                try:
                    await method(b"")
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.01)

        calling = asyncio.create_task(call())
        async with asyncio.timeout(2 * AT_ONCE):
            await served.server.stop()
        over.set()
        await calling


async def test_who_has_not_heard_of_the_end_is_answered() -> None:
    """Between its calls there is quiet enough to end; whoever makes them learns of it later."""
    async with serving(drain_seconds=8, telling_seconds=3) as served:
        method: Any = served.channel.unary_unary("/shop.tests.v1.ThingService/GetThing")
        await method(b"")
        ending = asyncio.create_task(served.server.stop())
        for _ in range(5):
            await asyncio.sleep(2 * QUIET_SECONDS)
            await method(b"")
        assert not ending.done()
        await ending


async def test_whom_nobody_calls_ends_at_once() -> None:
    async with serving(drain_seconds=60, telling_seconds=30) as served:
        async with asyncio.timeout(15):
            await served.server.stop()
