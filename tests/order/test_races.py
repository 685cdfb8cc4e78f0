"""Many at once: no oversell, no order twice, no money and cancellation both."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from services.kit.ids import uuid7
from shop.order.v1.order_pb2 import Order
from shop.order.v1.settlement_pb2 import MarkPaidResponse
from tests.callers import User
from tests.order.shop import Shop, outcomes, request


class TestCreateOrder:
    async def test_fifty_pieces_make_fifty_orders_of_two_hundred(self, shop: Shop) -> None:
        lamp = await shop.product(stock=50)
        customers = [await shop.customer() for _ in range(20)]
        orders, reasons = await outcomes(
            shop.order(customers[number % 20], (lamp, 1)) for number in range(200)
        )
        assert len(orders) == 50
        assert Counter(reasons) == {"OUT_OF_STOCK": 150}
        assert await shop.stock(lamp) == (50, 50)
        await shop.audit()
        assert await shop.owner.fetchval('SELECT count(*) FROM "order".orders') == 50

    async def test_one_key_twenty_times_makes_one_order(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=50)
        orders = await asyncio.gather(
            *(shop.order(customer, (lamp, 2), key="once") for _ in range(20))
        )
        assert len({order.id for order in orders}) == 1
        assert {order.status for order in orders} == {Order.AWAITING_PAYMENT}
        assert await shop.stock(lamp) == (50, 2)
        await shop.audit()

    async def test_hot_products_in_any_order_never_deadlock(self, shop: Shop) -> None:
        """Promise S3; `SHOP_TEST_SECONDS=60` has it go on for so long."""
        customers = [await shop.customer() for _ in range(10)]
        products = [await shop.product(stock=100_000) for _ in range(10)]
        before = await deadlocks(shop)
        until = time.monotonic() + float(os.environ.get("SHOP_TEST_SECONDS", "0"))
        orders = 0

        async def buy(customer: User, chance: random.Random) -> None:
            nonlocal orders
            chosen = chance.sample(products, chance.randint(1, 5))
            order = await shop.order(customer, *((product, 1) for product in chosen))
            orders += 1
            if chance.random() < 0.5:
                await shop.pay(order)
            else:
                await shop.cancel(order, customer)

        async def go_on(number: int) -> set[str]:
            chance, refused = random.Random(number), set[str]()
            while True:
                _, reasons = await outcomes([buy(customers[number % len(customers)], chance)])
                refused.update(reasons)
                if time.monotonic() > until:
                    return refused

        relaying = asyncio.create_task(shop.parts.relay.forever())
        refused = await asyncio.gather(*(go_on(number) for number in range(100)))
        # Where this machine has much else to do, calls are refused, or are cut off and left.
        busy = {"OVERLOADED", "DEADLINE_EXCEEDED", "DEPENDENCY_UNAVAILABLE"}
        assert set().union(*refused) <= busy
        assert orders
        async with asyncio.timeout(60):
            while await shop.parts.sweeper.finish_left():
                await asyncio.sleep(0.05)
            while await shop.owner.fetchval('SELECT EXISTS (SELECT FROM "order".outbox)'):
                await asyncio.sleep(0.05)
        relaying.cancel()
        await shop.audit()
        assert await deadlocks(shop) == before
        print(f"{orders} orders")  # noqa: T201 - for those who measure


async def deadlocks(shop: Shop) -> int:
    """How many Postgres has had to end, as of now."""
    await asyncio.sleep(1.1)  # sessions tell at most once a second
    return int(
        await shop.owner.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
    )


class TestEnds:
    async def test_cancelled_or_paid_never_both(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=100)
        for _ in range(30):
            order = await shop.order(customer, (lamp, 1))
            payment = str(uuid7())
            steps = [shop.pay(order, payment), shop.cancel(order, customer)]
            random.shuffle(steps)
            await asyncio.gather(*steps)
            after = await shop.get(order)
            assert after.status == Order.CANCELLED  # a paid one may still be cancelled
            outcome = await shop.pay(order, payment)
            if outcome == MarkPaidResponse.REFUND:
                assert after.payment_id == ""
            else:
                assert after.payment_id == payment  # whose money is given back by CloseOrder
        await shop.audit()
        assert await shop.stock(lamp) == (100, 0)

    async def test_expired_or_paid_never_both(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=100)
        for _ in range(30):
            order = await shop.order(customer, (lamp, 1))
            outcome, _ = await asyncio.gather(shop.pay(order), shop.expire(order))
            wanted = Order.PAID if outcome == MarkPaidResponse.ACCEPTED else Order.CANCELLED
            assert (await shop.get(order)).status == wanted
        await shop.audit()

    async def test_everything_at_once(self, shop: Shop) -> None:
        lamp = await shop.product(stock=20)
        customer = await shop.customer()

        async def live() -> None:
            order = await shop.order(customer, (lamp, random.randint(1, 3)))
            payment = str(uuid7())
            steps: list[Callable[[], Awaitable[object]]] = [
                lambda: shop.pay(order, payment),
                lambda: shop.pay(order),
                lambda: shop.cancel(order, customer),
                lambda: shop.refund(order, payment, order.total),
                shop.parts.relay.deliver_due,
            ]
            for step in random.sample(steps, len(steps)):
                await step()

        for _ in range(4):
            _, reasons = await outcomes(live() for _ in range(15))
            assert set(reasons) <= {"OUT_OF_STOCK", "STATUS_CHANGE_FORBIDDEN"}
            await shop.audit()


class TestCost:
    async def test_orders_that_wait_share_statements_and_each_gets_its_own(
        self, shop: Shop
    ) -> None:
        customers = [await shop.customer() for _ in range(3)]
        plenty, scarce = await shop.product(stock=100), await shop.product(stock=4)
        wanted = [(customers[n % 3], scarce if n % 5 == 4 else plenty) for n in range(40)]
        async with shop.parts.orders.counting() as statements:
            async with shop.owner.transaction():  # what keeps the first ones waiting
                await shop.owner.execute('LOCK TABLE "order".orders IN SHARE MODE')
                ordering = asyncio.create_task(
                    outcomes(shop.order(customer, (product, 1)) for customer, product in wanted)
                )
                await asyncio.sleep(0.3)
            orders, reasons = await ordering
        assert sorted(order.lines[0].product_id for order in orders) == sorted(
            [plenty.id] * 32 + [scarce.id] * 4
        )
        assert reasons == ["OUT_OF_STOCK"] * 4
        written = [text for text in statements if "INSERT" in text and '"order".orders' in text]
        assert len(written) < 40
        assert await shop.stock(plenty) == (100, 32)
        assert await shop.stock(scarce) == (4, 4)
        await shop.settle()
        await shop.audit()

    @pytest.mark.parametrize(("lines", "key"), [(1, ""), (3, ""), (3, "k"), (20, "")])
    async def test_an_order_costs_the_same_however_long_it_is(
        self, shop: Shop, lines: int, key: str
    ) -> None:
        customer = await shop.customer()
        products = [await shop.product() for _ in range(lines)]
        await shop.order(customer, (products[0], 1))
        calls = shop.parts.calls
        calls.clear()
        wanted = request(*((product, 1) for product in products))
        async with (
            shop.parts.orders.counting() as statements,
            shop.parts.catalogue.counting() as of_stock,
        ):
            await shop.orders.CreateOrder(wanted, metadata=customer(key=key))
        assert len(statements) == 2
        assert len(of_stock) <= 2
        assert set(calls) - {"GetChangedUsers"} == {"ReserveStock"}

    async def test_moving_an_order_costs_the_same_whatever_it_holds(self, shop: Shop) -> None:
        customer = await shop.customer()
        products = [await shop.product() for _ in range(10)]
        for count in (1, 10):
            order = await shop.order(customer, *((product, 1) for product in products[:count]))
            async with shop.parts.orders.counting() as statements:
                await shop.pay(order)
            assert len(statements) == 7
            async with shop.parts.orders.counting() as statements:
                await shop.cancel(order, customer)
            assert len(statements) == 4
