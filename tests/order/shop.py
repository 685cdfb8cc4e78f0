"""What tests do in a shop: fill it, order, pay, and look whether everything still adds up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import grpc
from google.type.money_pb2 import Money
from google.type.postal_address_pb2 import PostalAddress

from cli.invariants import AT_REST, CART, CATALOG, ORDER
from services.kit import outbox
from services.kit.ids import uuid7
from services.order.sweeper import Sweeper
from services.order.watching import Watchers
from shop.cart.v1.cart_pb2 import AddItemRequest, Cart
from shop.cart.v1.cart_pb2_grpc import CartServiceStub
from shop.catalog.v1.catalog_pb2 import CreateProductRequest, Product
from shop.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from shop.order.v1.order_pb2 import (
    CancelOrderRequest,
    CreateOrderRequest,
    GetOrderRequest,
    ListOrderEventsRequest,
    Order,
    OrderEvent,
    UpdateOrderRequest,
)
from shop.order.v1.order_pb2_grpc import OrderServiceStub
from shop.order.v1.rate_pb2 import CreateShippingRateRequest
from shop.order.v1.rate_pb2_grpc import RateServiceStub
from shop.order.v1.settlement_pb2 import MarkPaidRequest, MarkPaidResponse, MarkRefundedRequest
from shop.order.v1.settlement_pb2_grpc import SettlementServiceStub
from shop.users.v1.users_pb2 import CreateUserRequest
from shop.users.v1.users_pb2_grpc import UserServiceStub
from tests import callers
from tests.callers import User
from tests.running import Running, refusal_of

ADDRESS = PostalAddress(region_code="DE", address_lines=["Hauptstr. 1"], locality="Berlin")

# Beside what `shop verify` looks at.
AUDIT = {
    "what is paid was accepted": """
        SELECT id FROM "order".orders
        WHERE payment_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM "order".settlements AS s
            WHERE s.order_id = id AND s.payment_id = orders.payment_id AND outcome = 1)
        """,
    "open reservations are those of open orders": """
        SELECT order_id FROM catalog.reservations WHERE state = 1 AND NOT EXISTS (
            SELECT FROM "order".orders WHERE id = order_id AND status IN (1, 2))
        """,
    # Nothing is on its way any more, so there is nothing to wait for.
    **{
        invariant.name: invariant.sql.replace(AT_REST, "interval '0 seconds'")
        for invariant in (*CATALOG, *CART, *ORDER)
    },
}


def euros(units: int, cents: int = 0) -> Money:
    return Money(currency_code="EUR", units=units, nanos=cents * 10_000_000)


def items(*wanted: tuple[Product, int]) -> list[CreateOrderRequest.Item]:
    """The default variants of products, and how many."""
    return [
        CreateOrderRequest.Item(variant_id=product.default_variant_id, quantity=pieces)
        for product, pieces in wanted
    ]


def request(*wanted: tuple[Product, int], **fields: Any) -> CreateOrderRequest:
    """A request for products, or for the cart; sent to `ADDRESS` unless said otherwise."""
    if not fields.keys() & {"address_id", "shipping_address"}:
        fields["shipping_address"] = ADDRESS
    return CreateOrderRequest(items=items(*wanted), **fields)


@dataclass
class Parts:
    """The served services, and what works in the background of orders."""

    users: Running
    catalogue: Running
    carts: Running
    orders: Running
    relay: outbox.Relay
    sweeper: Sweeper
    watchers: Watchers
    mailbox: Path
    # Methods of other services that orders called.
    calls: list[str]


class Shop:
    """A shop under test."""

    def __init__(self, parts: Parts, owner: asyncpg.Connection) -> None:
        self.parts = parts
        self.owner = owner
        self._owner_is_free = asyncio.Lock()
        self.users = UserServiceStub(parts.users.channel)
        self.catalog = CatalogServiceStub(parts.catalogue.channel)
        self.carts = CartServiceStub(parts.carts.channel)
        self.orders = OrderServiceStub(parts.orders.channel)
        self.settlement = SettlementServiceStub(parts.orders.channel)
        self.rates = RateServiceStub(parts.orders.channel)
        self.staff = User("STAFF")

    async def customer(self) -> User:
        """Somebody who has signed up."""
        email = callers.new_email()
        password = "correct horse battery staple"
        user = await self.users.CreateUser(CreateUserRequest(email=email, password=password))
        return User(id=UUID(user.id), email=email)

    async def product(self, stock: int = 10, price: int = 10, **fields: Any) -> Product:
        """A product for whole euros."""
        name = fields.pop("name", "Lamp")
        wanted = CreateProductRequest(
            name=name, price=fields.pop("money", euros(price)), stock=stock, **fields
        )
        return await self.catalog.CreateProduct(wanted, metadata=self.staff())

    async def ship(self, currency: str, units: int, **fields: Any) -> None:
        """Have a shipping rate."""
        price = Money(currency_code=currency, units=units)
        wanted = CreateShippingRateRequest(price=price, **fields)
        await self.rates.CreateShippingRate(wanted, metadata=self.staff())

    async def order(
        self, by: User, *wanted: tuple[Product, int], key: str = "", **fields: Any
    ) -> Order:
        """Order products, or the cart."""
        return await self.orders.CreateOrder(request(*wanted, **fields), metadata=by(key=key))

    async def placed(self, quantity: int = 1, stock: int = 10) -> tuple[User, Order]:
        """Somebody's order of something new, waiting to be paid."""
        customer = await self.customer()
        return customer, await self.order(customer, (await self.product(stock), quantity))

    async def add(self, by: User, product: Product, quantity: int = 1) -> Cart:
        """Put something into a cart."""
        wanted = AddItemRequest(variant_id=product.default_variant_id, quantity=quantity)
        return await self.carts.AddItem(wanted, metadata=by())

    async def get(self, order: Order) -> Order:
        """An order as it is now."""
        return await self.orders.GetOrder(GetOrderRequest(id=order.id), metadata=self.staff())

    async def move(self, order: Order, *statuses: Order.Status.ValueType) -> Order:
        """Have staff move an order along."""
        for status in statuses:
            wanted = UpdateOrderRequest(id=order.id, status=status)
            order = await self.orders.UpdateOrder(wanted, metadata=self.staff())
        return order

    async def cancel(self, order: Order, by: User, **fields: Any) -> Order:
        """Cancel an order."""
        wanted = CancelOrderRequest(id=order.id, **fields)
        return await self.orders.CancelOrder(wanted, metadata=by())

    async def pay(
        self, order: Order, payment_id: str = "", amount: Money | None = None
    ) -> MarkPaidResponse.Outcome.ValueType:
        """Tell that an order was paid."""
        wanted = MarkPaidRequest(
            order_id=order.id, payment_id=payment_id or str(uuid7()), amount=amount or order.total
        )
        answer = await self.settlement.MarkPaid(wanted, metadata=callers.service("payment"))
        return answer.outcome

    async def refund(self, order: Order, payment_id: str, total: Money, *, note: str = "") -> None:
        """Tell how much of a payment was given back."""
        wanted = MarkRefundedRequest(
            order_id=order.id, payment_id=payment_id, refunded_total=total, note=note
        )
        await self.settlement.MarkRefunded(wanted, metadata=callers.service("payment"))

    async def events(self, order: Order) -> list[OrderEvent]:
        """The history of an order."""
        answer = await self.orders.ListOrderEvents(
            ListOrderEventsRequest(id=order.id), metadata=self.staff()
        )
        return list(answer.events)

    async def statuses(self, order: Order) -> list[str]:
        """The statuses that an order went through."""
        return [Order.Status.Name(event.to_status) for event in await self.events(order)]

    async def settle(self) -> None:
        """Have everything delivered that waits in the outbox."""
        while await self.parts.relay.deliver_due():
            pass
        assert not await self.owner.fetch('SELECT topic, last_error FROM "order".outbox')

    async def expire(self, order: Order) -> None:
        """Let the time to pay an order run out."""
        async with self._owner_is_free:
            await self.owner.execute(
                """UPDATE "order".orders SET expire_time = now() WHERE id = $1""", UUID(order.id)
            )
        await self.parts.sweeper.cancel_expired()

    async def stock(self, product: Product) -> tuple[int, int]:
        """On hand and reserved."""
        row = await self.owner.fetchrow(
            "SELECT on_hand, reserved FROM catalog.stock WHERE variant_id = $1",
            UUID(product.default_variant_id),
        )
        assert row is not None
        return row["on_hand"], row["reserved"]

    def mails(self) -> list[EmailMessage]:
        """The mails sent."""
        return [
            message_from_bytes(path.read_bytes(), policy=policy.default)
            for path in sorted(self.parts.mailbox.glob("*.eml"))
        ]

    async def audit(self) -> None:
        """Fail unless everything adds up, once what is due has been delivered."""
        await self.settle()
        found = {name: await self.owner.fetch(query) for name, query in AUDIT.items()}
        assert not {name: rows for name, rows in found.items() if rows}


async def outcomes(calls: Iterable[Awaitable[Any]]) -> tuple[list[Any], list[str]]:
    """The answers of calls that run at the same time, and the reasons of those refused."""
    answers: list[Any] = []
    reasons: list[str] = []
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, grpc.aio.AioRpcError):
            reasons.append(refusal_of(result).reason or result.code().name)
        elif isinstance(result, BaseException):
            raise result
        else:
            answers.append(result)
    return answers, reasons
