"""Orders made of a cart: one order for one content, whoever asks how often."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc import StatusCode

from services.kit.ids import uuid7
from services.order.basket import Basket
from shop.cart.v1.cart_pb2 import Cart, GetCartRequest, RemoveItemRequest, UpdateItemRequest
from shop.order.v1.order_pb2 import Order
from tests.callers import User
from tests.order.shop import Shop, euros
from tests.running import refused


async def cart_of(shop: Shop, customer: User) -> Cart:
    return await shop.carts.GetCart(GetCartRequest(), metadata=customer())


class TestOrderingACart:
    async def test_what_is_in_it_is_ordered(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp, chair = await shop.product(price=3), await shop.product(price=5, name="Chair")
        await shop.add(customer, lamp, 2)
        cart = await shop.add(customer, chair, 1)
        order = await shop.order(customer)
        assert order.cart_id == cart.id
        assert [(line.product_name, line.quantity) for line in order.lines] == [
            ("Lamp", 2),
            ("Chair", 1),
        ]
        assert order.total == euros(11)
        assert (await cart_of(shop, customer)).item_count == 3

    async def test_without_anything_in_it_there_is_nothing_to_order(self, shop: Shop) -> None:
        customer = await shop.customer()
        with refused(StatusCode.FAILED_PRECONDITION, "CART_EMPTY"):
            await shop.order(customer)
        cart = await shop.add(customer, await shop.product())
        await shop.carts.RemoveItem(RemoveItemRequest(id=cart.items[0].id), metadata=customer())
        with refused(StatusCode.FAILED_PRECONDITION, "CART_EMPTY"):
            await shop.order(customer)

    async def test_ordering_it_twice_answers_the_same_order(self, shop: Shop) -> None:
        customer = await shop.customer()
        await shop.add(customer, await shop.product())
        order = await shop.order(customer, key="one")
        assert await shop.order(customer, key="two") == order
        assert await shop.order(customer) == order

    async def test_once_it_is_paid_the_cart_is_cleared_and_becomes_another_order(
        self, shop: Shop
    ) -> None:
        customer = await shop.customer()
        lamp = await shop.product()
        await shop.add(customer, lamp, 2)
        order = await shop.order(customer)
        await shop.pay(order)
        assert (await shop.order(customer)).id == order.id  # not cleared yet: nothing new
        await shop.settle()
        assert (await cart_of(shop, customer)).item_count == 0
        await shop.add(customer, lamp, 1)
        other = await shop.order(customer)
        assert (other.id, other.cart_id) != (order.id, "")
        assert [line.quantity for line in other.lines] == [1]
        await shop.audit()

    async def test_what_was_put_in_since_stays(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp, chair = await shop.product(), await shop.product(name="Chair")
        await shop.add(customer, lamp, 2)
        order = await shop.order(customer)
        await shop.add(customer, lamp, 1)
        await shop.add(customer, chair, 4)
        await shop.pay(order)
        await shop.settle()
        left = await cart_of(shop, customer)
        assert [(item.product_name, item.quantity) for item in left.items] == [
            ("Lamp", 1),
            ("Chair", 4),
        ]

    async def test_a_cart_that_has_changed_replaces_its_unpaid_order(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=3)
        cart = await shop.add(customer, lamp, 2)
        first = await shop.order(customer)
        await shop.carts.UpdateItem(
            UpdateItemRequest(id=cart.items[0].id, quantity=3), metadata=customer()
        )
        second = await shop.order(customer)
        assert [line.quantity for line in second.lines] == [3]
        replaced = await shop.get(first)
        assert replaced.status == Order.CANCELLED
        assert (await shop.events(first))[-1].note == "Replaced by a new order of the same cart."
        assert await shop.pay(first) == 2
        await shop.audit()
        assert await shop.stock(lamp) == (3, 3)

    async def test_what_is_paid_is_not_ordered_again_before_the_cart_is_cleared(
        self, shop: Shop
    ) -> None:
        customer = await shop.customer()
        lamp, chair = await shop.product(), await shop.product(name="Chair")
        await shop.add(customer, lamp, 2)
        order = await shop.order(customer)
        await shop.add(customer, chair, 1)
        await shop.pay(order)  # and nothing of what follows has happened
        other = await shop.order(customer)
        assert [line.product_name for line in other.lines] == ["Chair"]
        await shop.audit()

    async def test_what_is_taken_out_while_it_is_ordered_again_is_not_ordered_twice(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        customer = await shop.customer()
        lamp, chair = await shop.product(), await shop.product(name="Chair")
        await shop.add(customer, lamp, 2)
        order = await shop.order(customer)
        await shop.add(customer, chair, 1)
        await shop.pay(order)  # and nothing of what follows has happened
        draft = Basket.draft

        async def and_be_overtaken(*given: Any) -> Any:
            drafted = await draft(*given)
            monkeypatch.setattr(Basket, "draft", draft)
            await shop.settle()
            return drafted

        monkeypatch.setattr(Basket, "draft", and_be_overtaken)
        other = await shop.order(customer)
        assert [line.product_name for line in other.lines] == ["Chair"]
        await shop.audit()

    async def test_a_cancelled_order_leaves_its_cart_to_be_ordered(self, shop: Shop) -> None:
        customer = await shop.customer()
        await shop.add(customer, await shop.product())
        first = await shop.order(customer)
        await shop.cancel(first, customer)
        assert (await shop.order(customer)).id != first.id


class TestRaces:
    async def test_twenty_keys_on_one_cart_make_one_order(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=50)
        await shop.add(customer, lamp, 2)
        orders = await asyncio.gather(*(shop.order(customer, key=str(uuid7())) for _ in range(20)))
        assert len({order.id for order in orders}) == 1
        assert await shop.stock(lamp) == (50, 2)
        await shop.audit()

    async def test_ordering_while_the_cart_fills_loses_and_doubles_nothing(
        self, shop: Shop
    ) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=100)
        await shop.add(customer, lamp, 1)

        async def order_and_pay() -> None:
            order = await shop.order(customer)
            await shop.pay(order)

        for _ in range(5):
            await asyncio.gather(
                order_and_pay(),
                shop.add(customer, lamp, 1),
                shop.add(customer, lamp, 1),
                return_exceptions=True,
            )
            await shop.settle()
        in_cart = (await cart_of(shop, customer)).item_count
        sold = await shop.owner.fetchval("""
            SELECT coalesce(sum(quantity), 0)
            FROM "order".order_lines AS line JOIN "order".orders ON orders.id = line.order_id
            WHERE status = 3
        """)
        assert in_cart + sold == 11
        await shop.audit()
