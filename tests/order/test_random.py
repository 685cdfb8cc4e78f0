"""Any mixture of filling carts, buying, paying, cancelling, restocking, also by a guest.

One by one all is as a model tells; at once, nothing is lost.

`SHOP_TEST_EXAMPLES=5000` has them go on for minutes.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import grpc
from hypothesis import HealthCheck, given, settings, strategies as st

from services.kit.ids import uuid7
from shop.cart.v1.cart_pb2 import AddItemRequest, GetCartRequest, MergeCartRequest
from shop.catalog.v1.catalog_pb2 import AdjustStockRequest, Product, StockMovement
from shop.order.v1.order_pb2 import Order
from tests.callers import User
from tests.order.shop import Shop
from tests.postgres_fixtures import empty_all_tables
from tests.running import refusal_of

EXAMPLES = int(os.environ.get("SHOP_TEST_EXAMPLES", "30"))
PIECES = (4, 6)
UNPAID = (Order.PENDING, Order.AWAITING_PAYMENT)

Kind = Literal[
    "add",
    "guest adds",
    "merge",
    "order items",
    "order cart",
    "pay",
    "cancel",
    "expire",
    "refund",
    "pack",
    "restock",
]


class Step(NamedTuple):
    """One call: on the order of this number, or with lines of (number of the product, pieces)."""

    kind: Kind
    order: int
    lines: tuple[tuple[int, int], ...]


items = st.tuples(st.integers(0, len(PIECES) - 1), st.integers(1, 3))
steps = st.builds(
    Step,
    st.sampled_from(Kind.__args__),  # type: ignore[attr-defined]
    st.integers(0, 3),
    st.lists(items, min_size=1, max_size=3).map(tuple),
)
calmly = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass
class Placed:
    """An order of the model; `content` is the cart's when it was made of one."""

    demand: Counter[int]
    content: int = 0
    status: Order.Status.ValueType = Order.AWAITING_PAYMENT
    refunded: bool = False
    paid: bool = False


@dataclass
class Model:
    """What ought to be, in the plainest terms."""

    on_hand: Counter[int] = field(default_factory=lambda: Counter(dict(enumerate(PIECES))))
    reserved: Counter[int] = field(default_factory=Counter)
    cart: Counter[int] = field(default_factory=Counter)
    # What the guest has who is yet to sign in.
    guest: Counter[int] = field(default_factory=Counter)
    content: int = 1
    orders: list[Placed] = field(default_factory=list)

    def take(self, step: Step) -> str:
        """Do a step; what comes of it."""
        if step.kind == "add":
            self.cart.update(dict_of(step))
            self.content += 1
            return ""
        if step.kind == "guest adds":
            self.guest.update(dict_of(step))
            return ""
        if step.kind == "merge":
            return self.merge()
        if step.kind == "restock":
            self.on_hand.update(dict_of(step))
            return ""
        if step.kind == "order items":
            return self.place(dict_of(step), 0)
        if step.kind == "order cart":
            return self.order_cart()
        if step.order >= len(self.orders):
            return "no such order"
        order = self.orders[step.order]
        outcome: str = getattr(self, step.kind)(order)
        return outcome

    def place(self, demand: Counter[int], content: int) -> str:
        if any(self.on_hand[n] - self.reserved[n] < pieces for n, pieces in demand.items()):
            return "OUT_OF_STOCK"
        self.reserved.update(demand)
        self.orders.append(Placed(demand, content))
        return f"order {len(self.orders) - 1}"

    def merge(self) -> str:
        """Both together, but no more than there is; what the customer had stays."""
        for n, pieces in self.guest.items():
            most = max(self.on_hand[n] - self.reserved[n], 1)
            self.cart[n] = max(self.cart[n], min(self.cart[n] + pieces, most))
        if self.guest:
            self.content += 1
        self.guest = Counter()
        return ""

    def order_cart(self) -> str:
        if not +self.cart:
            return "CART_EMPTY"
        for number, order in enumerate(self.orders):
            if order.content and order.status in UNPAID:
                if order.content == self.content:
                    return f"order {number}"
                self.close(order)
        return self.place(Counter(self.cart), self.content)

    def close(self, order: Placed) -> None:
        if order.status in UNPAID:
            self.reserved.subtract(order.demand)
        else:
            self.on_hand.update(order.demand)
        order.status = Order.CANCELLED

    def pay(self, order: Placed) -> str:
        if order.paid:
            return "ACCEPTED"
        if order.status not in UNPAID:
            return "REFUND"
        self.reserved.subtract(order.demand)
        self.on_hand.subtract(order.demand)
        order.status, order.paid = Order.PAID, True
        if order.content:
            self.cart = +(self.cart - order.demand)
            self.content += 1
        return "ACCEPTED"

    def cancel(self, order: Placed) -> str:
        if order.status == Order.CANCELLED:
            return "CANCELLED"
        if order.status not in (*UNPAID, Order.PAID):
            return "STATUS_CHANGE_FORBIDDEN"
        self.close(order)
        return "CANCELLED"

    def expire(self, order: Placed) -> str:
        if order.status in UNPAID:
            self.close(order)
        return ""

    def refund(self, order: Placed) -> str:
        if order.paid and not order.refunded:
            order.refunded = True
            if order.status == Order.PAID:
                self.on_hand.update(order.demand)
            if order.status != Order.CANCELLED:
                order.status = Order.REFUNDED
        return ""

    def pack(self, order: Placed) -> str:
        if order.status != Order.PAID:
            return "" if order.status == Order.FULFILLING else "STATUS_CHANGE_FORBIDDEN"
        order.status = Order.FULFILLING
        return ""


def dict_of(step: Step) -> Counter[int]:
    """Pieces by the number of the product."""
    pieces: Counter[int] = Counter()
    for number, count in step.lines:
        pieces[number] += count
    return pieces


class Reality:
    """The same steps, on the services."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._customer = User()
        self._products: list[Product] = []
        self._orders: list[Order] = []
        self._payments: dict[str, str] = {}
        # Of the guest's cart, and whether that is merged: then the next one is another guest.
        self._token, self._merged = "", False

    async def begin(self) -> None:
        await empty_all_tables(self._shop.owner)
        await self._shop.ship("EUR", 0)
        self._customer = await self._shop.customer()
        self._products = [await self._shop.product(stock=pieces) for pieces in PIECES]

    async def take(self, step: Step) -> str:
        """Do a step; what comes of it."""
        try:
            return await self._take(step)
        except grpc.aio.AioRpcError as error:
            return refusal_of(error).reason

    async def _take(self, step: Step) -> str:
        shop, customer = self._shop, self._customer
        wanted = [(self._products[number], pieces) for number, pieces in step.lines]
        match step.kind:
            case "add":
                for product, pieces in wanted:
                    await shop.add(customer, product, pieces)
                return ""
            case "guest adds":
                for product, pieces in wanted:
                    await self._guest_adds(product, pieces)
                return ""
            case "merge":
                if self._token:
                    merging = MergeCartRequest(cart_token=self._token)
                    await shop.carts.MergeCart(merging, metadata=customer())
                    self._merged = True
                return ""
            case "restock":
                for product, pieces in wanted:
                    await shop.catalog.AdjustStock(
                        AdjustStockRequest(
                            variant_id=product.default_variant_id,
                            change=pieces,
                            reason=StockMovement.RESTOCK,
                        ),
                        metadata=shop.staff(),
                    )
                return ""
            case "order items":
                return self._number(await shop.order(customer, *wanted))
            case "order cart":
                return self._number(await shop.order(customer))
        if step.order >= len(self._orders):
            return "no such order"
        return await self._move(step.kind, self._orders[step.order])

    async def _guest_adds(self, product: Product, pieces: int) -> None:
        token = "" if self._merged else self._token
        cart = await self._shop.carts.AddItem(
            AddItemRequest(variant_id=product.default_variant_id, quantity=pieces),
            metadata=(("x-cart-token", token),) if token else (),
        )
        if not token:
            self._token, self._merged = cart.cart_token, False

    async def _move(self, kind: Kind, order: Order) -> str:
        shop = self._shop
        payment = self._payments[order.id]
        match kind:
            case "pay":
                return "ACCEPTED" if await shop.pay(order, payment) == 1 else "REFUND"
            case "cancel":
                return Order.Status.Name((await shop.cancel(order, self._customer)).status)
            case "expire":
                await shop.expire(order)
            case "refund":
                if (await shop.get(order)).payment_id:
                    await shop.refund(order, payment, order.total)
            case "pack":
                await shop.move(order, Order.FULFILLING)
        return ""

    def _number(self, order: Order) -> str:
        if order.id not in self._payments:
            self._payments[order.id] = str(uuid7())
            self._orders.append(order)
        return f"order {[made.id for made in self._orders].index(order.id)}"

    async def state(self) -> tuple[list[tuple[int, int]], list[Order.Status.ValueType], list[int]]:
        """Stock, statuses, and what is in the cart."""
        cart = await self._shop.carts.GetCart(GetCartRequest(), metadata=self._customer())
        in_cart = {item.product_id: item.quantity for item in cart.items}
        return (
            [await self._shop.stock(product) for product in self._products],
            [(await self._shop.get(order)).status for order in self._orders],
            [in_cart.get(product.id, 0) for product in self._products],
        )


@settings(calmly, max_examples=EXAMPLES)
@given(program=st.lists(steps, min_size=1, max_size=15))
async def test_one_after_the_other_all_is_as_the_model_tells(
    shop: Shop, program: list[Step]
) -> None:
    reality, model = Reality(shop), Model()
    await reality.begin()
    for step in program:
        assert await reality.take(step) == model.take(step), step
        await shop.settle()
    numbers = range(len(PIECES))
    assert await reality.state() == (
        [(model.on_hand[n], model.reserved[n]) for n in numbers],
        [order.status for order in model.orders],
        [model.cart[n] for n in numbers],
    )
    await shop.audit()


@settings(calmly, max_examples=EXAMPLES)
@given(rounds=st.lists(st.lists(steps, min_size=2, max_size=12), min_size=1, max_size=4))
async def test_all_at_once_nothing_is_lost(shop: Shop, rounds: list[list[Step]]) -> None:
    reality = Reality(shop)
    await reality.begin()
    for at_once in rounds:
        outcomes = await asyncio.gather(
            *(reality.take(step) for step in at_once), shop.parts.relay.deliver_due()
        )
        assert not {str(outcome) for outcome in outcomes} & {"INTERNAL", "DEPENDENCY_UNAVAILABLE"}
        await shop.audit()
