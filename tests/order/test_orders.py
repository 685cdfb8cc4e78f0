"""Orders as they are read, moved along and cancelled."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from services.kit.ids import uuid7
from services.order.rules import MOVES, By
from shop.order.v1.order_pb2 import (
    CancelOrderRequest,
    GetOrderRequest,
    ListOrderEventsRequest,
    Order,
    OrderEvent,
    UpdateOrderRequest,
)
from tests.callers import NOBODY, User
from tests.order.shop import Shop, euros
from tests.running import refused

ROUTES: dict[Order.Status.ValueType, list[Order.Status.ValueType | str]] = {
    Order.AWAITING_PAYMENT: [],
    Order.PAID: ["pay"],
    Order.FULFILLING: ["pay", Order.FULFILLING],
    Order.SHIPPED: ["pay", Order.FULFILLING, Order.SHIPPED],
    Order.DELIVERED: ["pay", Order.FULFILLING, Order.SHIPPED, Order.DELIVERED],
    Order.CANCELLED: [Order.CANCELLED],
    Order.PARTIALLY_REFUNDED: ["pay", "refund a part"],
    Order.REFUNDED: ["pay", "refund"],
}
SETTABLE = [status for status in Order.Status.values() if status]


async def bring(shop: Shop, status: Order.Status.ValueType) -> tuple[User, Order]:
    """Somebody's order that has come so far."""
    customer, order = await shop.placed(quantity=2)
    payment = str(uuid7())
    for step in ROUTES[status]:
        if step == "pay":
            await shop.pay(order, payment)
        elif step == "refund a part":
            await shop.refund(order, payment, euros(1))
        elif isinstance(step, str):
            await shop.refund(order, payment, order.total)
        else:
            await shop.move(order, step)
    return customer, await shop.get(order)


class TestGetOrder:
    async def test_its_owner_and_staff_see_it(self, shop: Shop) -> None:
        customer, order = await shop.placed()
        for caller in (customer, shop.staff):
            got = await shop.orders.GetOrder(GetOrderRequest(id=order.id), metadata=caller())
            assert got == order

    async def test_to_others_it_does_not_exist(self, shop: Shop) -> None:
        _, order = await shop.placed()
        for id in (order.id, str(uuid7())):
            with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
                await shop.orders.GetOrder(GetOrderRequest(id=id), metadata=User()())
        with refused(StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"):
            await shop.orders.GetOrder(GetOrderRequest(id=order.id), metadata=NOBODY)


class TestUpdateOrder:
    async def test_staff_move_it_along(self, shop: Shop) -> None:
        _, order = await bring(shop, Order.PAID)
        order = await shop.move(order, Order.FULFILLING, Order.SHIPPED, Order.DELIVERED)
        assert order.status == Order.DELIVERED
        assert [event.actor for event in (await shop.events(order))[-3:]] == [OrderEvent.STAFF] * 3
        await shop.audit()

    async def test_tracking_and_note_change_alone(self, shop: Shop) -> None:
        _, order = await bring(shop, Order.FULFILLING)
        tracking = Order.Tracking(carrier="DHL", number="123", url="https://dhl.example/123")
        after = await shop.orders.UpdateOrder(
            UpdateOrderRequest(id=order.id, tracking=tracking), metadata=shop.staff()
        )
        assert after.tracking == tracking
        assert after.etag != order.etag
        event = (await shop.events(order))[-1]
        assert event.from_status == event.to_status == Order.FULFILLING
        assert event.note == "Tracking: DHL 123 https://dhl.example/123"
        noted = await shop.orders.UpdateOrder(
            UpdateOrderRequest(id=order.id, note="Fragile", status=Order.SHIPPED),
            metadata=shop.staff(),
        )
        assert (noted.note, noted.tracking) == ("Fragile", tracking)
        assert (await shop.events(order))[-1].note == "Fragile"

    async def test_what_changes_nothing_makes_no_event(self, shop: Shop) -> None:
        _, order = await bring(shop, Order.PAID)
        again = await shop.orders.UpdateOrder(
            UpdateOrderRequest(id=order.id, status=Order.PAID, note=""), metadata=shop.staff()
        )
        assert again == order

    async def test_a_mask_clears_what_is_not_sent(self, shop: Shop) -> None:
        _, order = await bring(shop, Order.PAID)
        await shop.orders.UpdateOrder(
            UpdateOrderRequest(id=order.id, note="x", tracking=Order.Tracking(number="1")),
            metadata=shop.staff(),
        )
        request = UpdateOrderRequest(id=order.id, update_mask=FieldMask(paths=["tracking", "note"]))
        after = await shop.orders.UpdateOrder(request, metadata=shop.staff())
        assert not after.HasField("tracking")
        assert after.note == ""
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            await shop.orders.UpdateOrder(
                UpdateOrderRequest(id=order.id, update_mask=FieldMask(paths=["*"])),
                metadata=shop.staff(),
            )
        with refused(StatusCode.INVALID_ARGUMENT, "UNKNOWN_FIELD_IN_MASK"):
            await shop.orders.UpdateOrder(
                UpdateOrderRequest(id=order.id, update_mask=FieldMask(paths=["total"])),
                metadata=shop.staff(),
            )

    async def test_a_stale_etag_aborts_and_changes_nothing(self, shop: Shop) -> None:
        _, order = await bring(shop, Order.PAID)
        now = await shop.move(order, Order.FULFILLING)
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH") as refusal:
            await shop.orders.UpdateOrder(
                UpdateOrderRequest(id=order.id, status=Order.SHIPPED, etag=order.etag),
                metadata=shop.staff(),
            )
        assert refusal[0].metadata == {"etag": now.etag}
        assert await shop.get(order) == now

    async def test_its_owner_cancels_it_and_nothing_else(self, shop: Shop) -> None:
        customer, order = await shop.placed()
        changes: list[dict[str, Any]] = [
            {"status": Order.PAID},
            {"note": "mine"},
            {"tracking": Order.Tracking(number="1")},
            {"status": Order.CANCELLED, "note": "mine"},
        ]
        for change in changes:
            with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"):
                await shop.orders.UpdateOrder(
                    UpdateOrderRequest(id=order.id, **change), metadata=customer()
                )
        cancelled = await shop.orders.UpdateOrder(
            UpdateOrderRequest(id=order.id, status=Order.CANCELLED), metadata=customer()
        )
        assert cancelled.status == Order.CANCELLED
        assert (await shop.events(order))[-1].actor == OrderEvent.OWNER
        await shop.audit()

    async def test_to_others_it_does_not_exist(self, shop: Shop) -> None:
        _, order = await shop.placed()
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await shop.orders.UpdateOrder(
                UpdateOrderRequest(id=order.id, status=Order.CANCELLED), metadata=User()()
            )

    async def test_a_repeated_key_moves_once(self, shop: Shop) -> None:
        _, order = await bring(shop, Order.PAID)
        request = UpdateOrderRequest(id=order.id, status=Order.FULFILLING, note="packing")
        first = await shop.orders.UpdateOrder(request, metadata=shop.staff(key="k"))
        assert await shop.orders.UpdateOrder(request, metadata=shop.staff(key="k")) == first
        assert len(await shop.events(order)) == 4


@pytest.mark.parametrize("status", ROUTES, ids=Order.Status.Name)
class TestEveryMove:
    """All moves from each status, on every way, against the table of moves."""

    async def test_by_staff(self, shop: Shop, status: Order.Status.ValueType) -> None:
        for to in SETTABLE:
            if to != status:
                _, order = await bring(shop, status)
                request = UpdateOrderRequest(id=order.id, status=to)
                await self._try(shop, order, to, By.STAFF, request, shop.staff)

    async def test_by_the_owner(self, shop: Shop, status: Order.Status.ValueType) -> None:
        customer, order = await bring(shop, status)
        for to in SETTABLE:
            request = UpdateOrderRequest(id=order.id, status=to)
            if to != Order.CANCELLED:
                with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"):
                    await shop.orders.UpdateOrder(request, metadata=customer())
        if status != Order.CANCELLED:
            request = UpdateOrderRequest(id=order.id, status=Order.CANCELLED)
            await self._try(shop, order, Order.CANCELLED, By.OWNER, request, customer)

    async def test_by_cancelling(self, shop: Shop, status: Order.Status.ValueType) -> None:
        customer, order = await bring(shop, status)
        request = CancelOrderRequest(id=order.id, note="Changed my mind.")
        if status == Order.CANCELLED:
            again = await shop.orders.CancelOrder(request, metadata=customer())
            assert again == order
        else:
            await self._try(shop, order, Order.CANCELLED, By.CANCEL, request, customer)

    async def _try(
        self,
        shop: Shop,
        order: Order,
        to: Order.Status.ValueType,
        by: By,
        request: Any,
        caller: User,
    ) -> None:
        cancelling = isinstance(request, CancelOrderRequest)
        method = shop.orders.CancelOrder if cancelling else shop.orders.UpdateOrder
        if by in MOVES[order.status].get(to, ()):
            assert (await method(request, metadata=caller())).status == to
        else:
            with refused(StatusCode.FAILED_PRECONDITION, "STATUS_CHANGE_FORBIDDEN") as refusal:
                await method(request, metadata=caller())
            allowed = [end for end, who in MOVES[order.status].items() if by in who]
            assert refusal[0].metadata == {
                "from": Order.Status.Name(order.status),
                "to": Order.Status.Name(to),
                "allowed": ",".join(Order.Status.Name(end) for end in allowed),
            }
            assert await shop.get(order) == order
        await shop.audit()


class TestCancelOrder:
    async def test_stock_becomes_free_and_the_reason_is_kept(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=5)
        order = await shop.order(customer, (lamp, 5))
        cancelled = await shop.cancel(order, customer, note="Too dear.")
        assert cancelled.status == Order.CANCELLED
        event = (await shop.events(order))[-1]
        assert (event.actor, event.note) == (OrderEvent.OWNER, "Too dear.")
        await shop.settle()
        assert await shop.stock(lamp) == (5, 0)

    async def test_what_was_paid_and_taken_comes_back(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=5)
        order = await shop.order(customer, (lamp, 2))
        await shop.pay(order)
        await shop.settle()
        assert await shop.stock(lamp) == (3, 0)
        await shop.cancel(order, customer)
        await shop.settle()
        assert await shop.stock(lamp) == (5, 0)
        await shop.audit()

    async def test_a_stale_etag_aborts(self, shop: Shop) -> None:
        customer, order = await shop.placed()
        await shop.pay(order)
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
            await shop.cancel(order, customer, etag=order.etag)

    async def test_to_others_it_does_not_exist(self, shop: Shop) -> None:
        _, order = await shop.placed()
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await shop.cancel(order, User())


class TestListOrderEvents:
    async def test_pages_follow_each_other(self, shop: Shop) -> None:
        customer, order = await bring(shop, Order.DELIVERED)
        customer_sees: list[OrderEvent] = []
        token = ""
        for _ in range(2):
            page = await shop.orders.ListOrderEvents(
                ListOrderEventsRequest(id=order.id, page_size=3, page_token=token),
                metadata=customer(),
            )
            customer_sees += page.events
            token = page.next_page_token
        assert token == ""
        assert [event.sequence for event in customer_sees] == [1, 2, 3, 4, 5, 6]
        assert customer_sees == await shop.events(order)

    async def test_to_others_it_does_not_exist(self, shop: Shop) -> None:
        _, order = await shop.placed()
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await shop.orders.ListOrderEvents(
                ListOrderEventsRequest(id=order.id), metadata=User()()
            )

    async def test_the_database_refuses_to_change_it(self, shop: Shop) -> None:
        await shop.placed()
        for statement in (
            """UPDATE "order".order_events SET note = 'x'""",
            'DELETE FROM "order".order_events',
            'DELETE FROM "order".orders',
        ):
            with pytest.raises(asyncpg.RestrictViolationError):
                await shop.owner.execute(statement)
