"""What the service does by itself: it finishes what a crash left, and ends what is not paid."""

from __future__ import annotations

import asyncio
from uuid import UUID

from shop.catalog.v1.stock_pb2 import ReserveStockRequest
from shop.order.v1.order_pb2 import Order, OrderEvent
from tests.order.pending import leave_pending
from tests.order.shop import Shop, euros


class TestExpiry:
    async def test_an_unpaid_order_is_cancelled_in_time_and_its_stock_is_free(
        self, shop: Shop
    ) -> None:
        lamp = await shop.product(stock=5)
        order = await shop.order(await shop.customer(), (lamp, 2))
        assert await shop.parts.sweeper.cancel_expired() == 0
        await shop.expire(order)
        expired = await shop.get(order)
        assert expired.status == Order.CANCELLED
        event = (await shop.events(order))[-1]
        assert (event.actor, event.user_id) == (OrderEvent.SYSTEM, "")
        assert event.note == "It was not paid in time."
        await shop.settle()
        assert await shop.stock(lamp) == (5, 0)

    async def test_two_sweepers_cancel_each_once(self, shop: Shop) -> None:
        lamp = await shop.product(stock=100)
        customer = await shop.customer()
        orders = [await shop.order(customer, (lamp, 1)) for _ in range(60)]
        await shop.owner.execute('UPDATE "order".orders SET expire_time = now()')
        sweeps = (shop.parts.sweeper.cancel_expired() for _ in range(4))
        counts = await asyncio.gather(*sweeps)
        assert sum(counts) + await shop.parts.sweeper.cancel_expired() == 60
        assert len(await shop.events(orders[0])) == 3
        await shop.audit()


class TestLeftOrders:
    """Orders whose call was cut off before it came to its end, by the point where that was."""

    async def test_before_the_stock_was_asked_for(self, shop: Shop) -> None:
        lamp = await shop.product(stock=5)
        order = await shop.order(await shop.customer(), (lamp, 2))
        await leave_pending(shop.owner, order)
        await shop.owner.execute("DELETE FROM catalog.reservations")
        await shop.owner.execute("UPDATE catalog.stock SET reserved = 0")
        await shop.parts.sweeper.finish_left()
        finished = await shop.get(order)
        assert (finished.status, finished.total) == (Order.AWAITING_PAYMENT, euros(20))
        assert await shop.stock(lamp) == (5, 2)
        await shop.audit()

    async def test_after_the_stock_was_reserved(self, shop: Shop) -> None:
        lamp = await shop.product(stock=5)
        order = await shop.order(await shop.customer(), (lamp, 5))
        await leave_pending(shop.owner, order)
        await shop.parts.sweeper.finish_left()
        finished = await shop.get(order)
        assert finished.status == Order.AWAITING_PAYMENT
        assert finished.lines[0].unit_price == euros(10)
        await shop.audit()

    async def test_when_the_goods_are_gone_nothing_was_ordered(self, shop: Shop) -> None:
        lamp = await shop.product(stock=5)
        order = await shop.order(await shop.customer(), (lamp, 5))
        await leave_pending(shop.owner, order)
        await shop.owner.execute("DELETE FROM catalog.reservations")
        await shop.owner.execute("UPDATE catalog.stock SET on_hand = 4, reserved = 0")
        await shop.owner.execute("UPDATE catalog.stock_movements SET change = 4")
        await shop.parts.sweeper.finish_left()
        assert await shop.owner.fetchval('SELECT count(*) FROM "order".orders') == 0
        await shop.audit()

    async def test_the_same_key_goes_on_with_it(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=5)
        order = await shop.order(customer, (lamp, 2), key="k")
        await leave_pending(shop.owner, order)
        again = await shop.order(customer, (lamp, 2), key="k")
        assert (again.id, again.status) == (order.id, Order.AWAITING_PAYMENT)
        await shop.audit()

    async def test_many_may_go_on_with_it_at_once(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=5)
        order = await shop.order(customer, (lamp, 2), key="k")
        await leave_pending(shop.owner, order)
        await asyncio.gather(
            *(shop.parts.sweeper.finish_left() for _ in range(4)),
            *(shop.order(customer, (lamp, 2), key="k") for _ in range(4)),
        )
        assert await shop.statuses(order) == ["PENDING", "AWAITING_PAYMENT"]
        await shop.audit()

    async def test_it_can_be_cancelled_meanwhile(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=5)
        order = await shop.order(customer, (lamp, 2))
        await leave_pending(shop.owner, order)
        pending = await shop.get(order)
        assert not pending.HasField("total")
        cancelled = await shop.cancel(order, customer)
        assert cancelled.status == Order.CANCELLED
        await shop.parts.sweeper.finish_left()
        assert await shop.pay(order, amount=euros(20)) == 2
        await shop.audit()
        assert await shop.stock(lamp) == (5, 0)

    async def test_one_that_cannot_be_finished_does_not_stand_in_the_way(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=5)
        orders = [await shop.order(customer, (lamp, 1)) for _ in range(2)]
        for order in orders:
            await leave_pending(shop.owner, order)
        broken = ReserveStockRequest(order_id=orders[0].id).SerializeToString()
        await shop.owner.execute(
            'UPDATE "order".orders SET demand = $1 WHERE id = $2', broken, UUID(orders[0].id)
        )
        await shop.parts.sweeper.finish_left()
        assert (await shop.get(orders[0])).status == Order.PENDING
        assert (await shop.get(orders[1])).status == Order.AWAITING_PAYMENT
