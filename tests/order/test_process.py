"""The order service as a process: what it refuses, and how it ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from services.order.faults import Point
from shop.order.v1.order_pb2 import WatchOrderRequest, WatchOrderResponse
from tests.forked import Nursery
from tests.order.processes import OrderProcess, Users, environment, running
from tests.order.shop import Shop, request


async def test_production_refuses_to_kill_itself(
    nursery: Nursery, shop: Shop, database_url: Callable[[str], str]
) -> None:
    fault = {"SHOP_FAULT": Point.AFTER_ORDER.value, "SHOP_ENV": "production"}
    process = await OrderProcess.start(
        nursery, environment(shop, 1, database_url("order"), **fault)
    )
    assert await process.ended() == 1
    await process.channel.close()


async def test_a_process_that_stops_ends_its_streams_and_finishes_its_calls(
    nursery: Nursery, shop: Shop, users: Users, database_url: Callable[[str], str]
) -> None:
    _, token = await users.sign_up()
    metadata = (("authorization", f"Bearer {token}"),)
    lamp = await shop.product()
    async with running(nursery, shop, users, database_url("order")) as process:
        order = await process.orders.CreateOrder(request((lamp, 1)), metadata=metadata)
        watching = process.orders.WatchOrder(WatchOrderRequest(id=order.id), metadata=metadata)
        stream = aiter(watching)
        assert (await anext(stream)).HasField("event")
        call = process.orders.CreateOrder(request((lamp, 1)), metadata=metadata)
        while await shop.owner.fetchval('SELECT count(*) FROM "order".orders') < 2:
            await asyncio.sleep(0.005)
        process.process.send_signal(signal.SIGTERM)
        messages = [message async for message in stream]
        assert messages[-1].end.cause == WatchOrderResponse.End.RECONNECT
        assert (await call).id != order.id
        assert await process.ended() == 0  # long before the stream's own end
    await shop.audit()
