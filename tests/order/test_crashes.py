"""kill -9 of the order service at every step: whatever it was doing comes to an end afterwards.

`SHOP_TEST_ROUNDS=20` repeats each step so often; once is the default.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import grpc
import pytest

from services.order.faults import Point
from shop.catalog.v1.catalog_pb2 import Product
from shop.order.v1.order_pb2 import CancelOrderRequest, Order
from shop.order.v1.settlement_pb2 import MarkPaidRequest
from tests import callers
from tests.forked import Nursery
from tests.order.processes import OrderProcess, Users, running
from tests.order.shop import Shop, outcomes, request

ROUNDS = int(os.environ.get("SHOP_TEST_ROUNDS", "1"))
# Somebody is at it, or a process that has just been started knows nobody yet.
NOT_YET = {"IDEMPOTENCY_KEY_IN_USE", "DEPENDENCY_UNAVAILABLE"}
# "All orders final within 30 s of restart."
FINAL_SECONDS = 30.0


@dataclass
class Buyers:
    """Four who each want the last three pieces, with one key each."""

    owners: dict[str, str]
    lamp: Product

    async def order(self, process: OrderProcess) -> tuple[list[Order], list[str]]:
        """What became of their orders; asked again, it is the same orders."""
        async with asyncio.timeout(60):
            while True:
                orders, reasons = await outcomes(
                    process.orders.CreateOrder(
                        request((self.lamp, 1)),
                        metadata=(
                            ("authorization", f"Bearer {token}"),
                            ("idempotency-key", "once"),
                        ),
                        timeout=5,
                    )
                    for token in self.owners.values()
                )
                if NOT_YET.isdisjoint(reasons):
                    return orders, reasons
                await asyncio.sleep(0.2)

    async def decide(self, process: OrderProcess, orders: list[Order]) -> None:
        """One pays, one cancels, one waits."""
        for order in orders[:1]:
            await process.settlement.MarkPaid(
                MarkPaidRequest(
                    order_id=order.id, payment_id=str(UUID(order.id)), amount=order.total
                ),
                metadata=callers.service("payment"),
                timeout=5,
            )
        for order in orders[1:2]:
            await process.orders.CancelOrder(
                CancelOrderRequest(id=order.id),
                metadata=(("authorization", f"Bearer {self.owners[order.user_id]}"),),
                timeout=5,
            )


async def all_final(shop: Shop) -> None:
    """Wait until no order is half made and nothing waits to be delivered."""
    async with asyncio.timeout(FINAL_SECONDS):
        while await shop.owner.fetchval("""
            SELECT EXISTS (SELECT FROM "order".orders WHERE status = 1)
                OR EXISTS (SELECT FROM "order".outbox)
        """):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("point", [point for point in Point if point])
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_everything_comes_to_an_end(
    nursery: Nursery,
    shop: Shop,
    users: Users,
    database_url: Callable[[str], str],
    point: Point,
    number: int,
) -> None:
    url = database_url("order")
    owners = dict([await users.sign_up() for _ in range(4)])
    buyers = Buyers(owners, await shop.product(stock=3))
    acknowledged: list[Any] = []
    async with running(nursery, shop, users, url, SHOP_FAULT=point.value) as process:
        with contextlib.suppress(grpc.aio.AioRpcError):
            acknowledged, _ = await buyers.order(process)
            await buyers.decide(process, acknowledged)
        assert await process.ended() == -signal.SIGKILL

    async with running(nursery, shop, users, url) as process:
        orders, reasons = await buyers.order(process)
        assert {order.id for order in acknowledged} <= {order.id for order in orders}
        assert set(reasons) <= {"OUT_OF_STOCK"}
        await buyers.decide(process, orders)
        await all_final(shop)
    await shop.audit()
    on_hand, reserved = await shop.stock(buyers.lamp)
    statuses = [
        row["status"] for row in await shop.owner.fetch('SELECT status FROM "order".orders')
    ]
    assert reserved == statuses.count(Order.AWAITING_PAYMENT)
    assert on_hand == 3 - statuses.count(Order.PAID)
