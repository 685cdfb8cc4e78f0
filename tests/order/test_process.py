"""The order service as a process: what it refuses, and how it ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from services.order.faults import Point
from shop.order.v1.order_pb2 import WatchOrderRequest, WatchOrderResponse
from tests.order.processes import OrderProcess, Users, environment, running
from tests.order.shop import Shop, request


async def test_production_refuses_to_kill_itself(
    shop: Shop, database_url: Callable[[str], str]
) -> None:
    fault = {"SHOP_FAULT": Point.AFTER_ORDER.value, "SHOP_ENV": "production"}
    process = OrderProcess(environment(shop, 1, database_url("order"), **fault))
    assert await process.ended() == 1
    await process.channel.close()


async def test_a_process_that_stops_ends_its_streams_and_finishes_its_calls(
    shop: Shop, users: Users, database_url: Callable[[str], str]
) -> None:
    _, token = await users.sign_up()
    metadata = (("authorization", f"Bearer {token}"),)
    lamp = await shop.product()
    async with running(shop, users, database_url("order")) as process:
        order = await process.orders.CreateOrder(request((lamp, 1)), metadata=metadata)
        watching = process.orders.WatchOrder(WatchOrderRequest(id=order.id), metadata=metadata)
        stream = aiter(watching)
        assert (await anext(stream)).HasField("event")
        call = process.orders.CreateOrder(request((lamp, 1)), metadata=metadata)
        await asyncio.sleep(0.005)
        clock = asyncio.get_running_loop().time
        began = clock()
        process.process.send_signal(signal.SIGTERM)
        messages = [message async for message in stream]
        assert messages[-1].end.cause == WatchOrderResponse.End.RECONNECT
        assert (await call).id != order.id
        assert await process.ended() == 0
        assert clock() - began < 5  # it did not have to wait for the stream's own end
    await shop.audit()
