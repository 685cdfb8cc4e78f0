"""What is left of a user in orders once they were deleted: amounts, goods, and an id."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from google.type.postal_address_pb2 import PostalAddress

from services.order.tables import metadata
from shop.order.v1.erasure_pb2 import EraseUserRequest
from shop.order.v1.erasure_pb2_grpc import ErasureServiceStub
from shop.order.v1.order_pb2 import CancelOrderRequest, Order, UpdateOrderRequest
from tests import callers
from tests.callers import User
from tests.order.pending import leave_pending
from tests.order.shop import Shop

PHONE, NOTE, KEY = "020 555 0123", "Ask for Canary", "canary key"
ADDRESS = PostalAddress(
    region_code="GB", address_lines=["7 Canary Wharf"], recipients=["Canary"], locality="Canary"
)


async def erase(shop: Shop, customer: User) -> None:
    stub = ErasureServiceStub(shop.parts.orders.channel)
    request = EraseUserRequest(user_id=str(customer.id))
    await stub.EraseUser(request, metadata=callers.service("users"))


async def told(shop: Shop, customer: User, key: str = KEY) -> Order:
    """An order in which everything personal is set."""
    lamp = await shop.product()
    fields: dict[str, Any] = {"shipping_address": ADDRESS, "shipping_phone": PHONE, "note": NOTE}
    return await shop.order(customer, (lamp, 2), key=key, **fields)


async def everything(shop: Shop) -> str:
    """Every row of every table as text; bytes in hex, and read as text."""
    rows = []
    for table in metadata.sorted_tables:
        for row in await shop.owner.fetch(f'SELECT t.* FROM "order"."{table.name}" t'):
            rows += [
                value.decode(errors="replace") if isinstance(value, bytes) else str(value)
                for value in row.values()
            ]
    return "\n".join(rows).lower()


class TestEraseUser:
    async def test_nothing_personal_is_left_in_any_table(self, shop: Shop) -> None:
        customer = await shop.customer()
        paid, cancelled = await told(shop, customer), await told(shop, customer, f"{KEY} 2")
        await shop.pay(paid)
        parcel = Order.Tracking(carrier="Canary Post", number="7")
        await shop.orders.UpdateOrder(
            UpdateOrderRequest(id=paid.id, tracking=parcel, note="Canary called"),
            metadata=shop.staff(key="a"),
        )
        await shop.orders.CancelOrder(
            CancelOrderRequest(id=cancelled.id, note="Canary moved"), metadata=shop.staff(key="b")
        )
        email = paid.email
        before = await everything(shop)
        assert before.count("canary") > 9
        assert email in before
        await erase(shop, customer)
        left = await everything(shop)
        for canary in ("canary", email, PHONE):
            assert canary not in left
        await shop.audit()

    async def test_what_was_bought_and_paid_stays(self, shop: Shop) -> None:
        customer = await shop.customer()
        order = await told(shop, customer)
        await shop.pay(order)
        paid, history = await shop.get(order), await shop.events(order)
        await erase(shop, customer)
        left = await shop.get(order)
        assert (left.email, left.shipping_phone, left.note) == ("", "", "")
        assert left.shipping_address == PostalAddress(region_code="GB")
        for name in ("id", "number", "user_id", "status", "lines", "total", "payment_id"):
            assert getattr(left, name) == getattr(paid, name)
        assert left.etag != paid.etag
        for event in history:
            event.ClearField("note")
        assert await shop.events(order) == history
        # It goes on, and to nobody's mailbox.
        await shop.settle()
        assert not shop.mails()
        assert (await shop.move(order, Order.FULFILLING)).status == Order.FULFILLING

    async def test_twice_is_like_once(self, shop: Shop) -> None:
        customer = await shop.customer()
        order = await told(shop, customer)
        await erase(shop, customer)
        once = await shop.get(order)
        await asyncio.gather(*(erase(shop, customer) for _ in range(3)))
        assert await shop.get(order) == once

    async def test_others_keep_theirs(self, shop: Shop) -> None:
        order = await told(shop, await shop.customer())
        await erase(shop, await shop.customer())
        assert await shop.get(order) == order

    async def test_an_order_that_is_being_made_is_emptied_once_it_is_there(
        self, shop: Shop
    ) -> None:
        customer = await shop.customer()
        order = await told(shop, customer)
        await leave_pending(shop.owner, order)
        (personal,) = await shop.owner.fetch('SELECT email, note FROM "order".orders')
        await erase(shop, customer)
        # As if its row had been written while the others were emptied.
        await shop.owner.execute(
            'UPDATE "order".orders SET email = $1, note = $2', *personal.values()
        )
        await shop.parts.sweeper.finish_left()
        left = await shop.get(order)
        assert (left.status, left.email, left.note) == (Order.AWAITING_PAYMENT, "", "")

    async def test_the_history_can_be_emptied_and_not_be_changed(self, shop: Shop) -> None:
        _, order = await shop.placed()
        for change in ("note = 'Other'", "to_status = 7", "sequence = 9", "note = '', actor = 3"):
            with pytest.raises(asyncpg.RestrictViolationError):
                await shop.owner.execute(
                    f'UPDATE "order".order_events SET {change} WHERE order_id = $1', UUID(order.id)
                )
