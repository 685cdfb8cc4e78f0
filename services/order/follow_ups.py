"""What follows a commit of ours in other services: rows of the outbox, and what delivers them.

Every delivery may come twice and late, and in any order with the others: a release that overtakes a
commit is final for the stock service, and one that comes after it puts the pieces back on hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from grpc.aio import AioRpcError

from services.kit import clients, logs, outbox
from services.kit.db import Connection, Database, Row, Transaction
from services.kit.delivery import Delivery, Letterhead
from services.order import confirmation, rules, store
from services.order.basket import Basket
from services.order.rules import By
from services.order.store import Event
from services.order.tables import metadata
from shop.catalog.v1 import stock_pb2, stock_pb2_grpc
from shop.errors.v1 import reason_pb2
from shop.order.v1.order_pb2 import OrderEvent
from shop.payment.v1 import closure_pb2, closure_pb2_grpc

log = logs.logger("follow-ups")

# Topics of the outbox; the payload is the order's id.
RELEASE_STOCK = "release_stock"
COMMIT_STOCK = "commit_stock"
CLEAR_CART = "clear_cart"
CONFIRM = "confirm"
CLOSE_PAYMENT = "close_payment"

OUTBOX = outbox.Outbox(metadata)

_SOLD_OUT = {reason_pb2.REASON_RESERVATION_EXPIRED, reason_pb2.REASON_RESERVATION_RELEASED}
SOLD_OUT_NOTE = "The time to pay was over, and the goods have been sold to others."


async def cancel(
    tx: Transaction, order: Row, event: Event, changes: Mapping[str, Any] | None = None
) -> Row:
    """Cancel a locked order: its stock becomes free, and what was paid is given back.

    `changes` are other columns that are written along.
    """
    columns = {**(changes or {}), "status": rules.CANCELLED}
    cancelled = await store.write(tx, order, columns, event)
    await OUTBOX.add(tx, RELEASE_STOCK, order["id"].bytes)
    await OUTBOX.add(tx, CLOSE_PAYMENT, order["id"].bytes)
    return cancelled


async def pay(tx: Transaction, order: Row, payment_id: UUID | None) -> Row:
    """Take note that a locked order is paid: its stock is taken, its cart emptied, a mail sent."""
    paid = await store.write(
        tx,
        order,
        {"status": rules.PAID, "payment_id": payment_id, "expire_time": None},
        Event(OrderEvent.SYSTEM, None, ""),
    )
    for topic in (COMMIT_STOCK, CLEAR_CART, CONFIRM):
        await OUTBOX.add(tx, topic, order["id"].bytes)
    return paid


async def restock(tx: Connection, order: Row) -> None:
    """Put the goods of an order that was never packed back on hand."""
    await OUTBOX.add(tx, RELEASE_STOCK, order["id"].bytes)


class FollowUps:
    """Delivers the outbox."""

    def __init__(
        self,
        database: Database,
        *,
        basket: Basket,
        stock: stock_pb2_grpc.StockServiceStub,
        closures: closure_pb2_grpc.ClosureServiceStub | None,
        delivery: Delivery,
        letterhead: Letterhead,
    ) -> None:
        """Without `closures` the shop takes no payments: nobody has to hear of cancellations."""
        self._db = database
        self._stock = stock
        self._basket = basket
        self._closures = closures
        self._delivery = delivery
        self._letterhead = letterhead

    def relay(self) -> outbox.Relay:
        """What delivers, to be run in the background."""
        topics = {
            RELEASE_STOCK: self.release_stock,
            COMMIT_STOCK: self.commit_stock,
            CLEAR_CART: self.clear_cart,
            CONFIRM: self.confirm,
            CLOSE_PAYMENT: self.close_payment,
        }
        return outbox.Relay(self._db, OUTBOX, topics)

    async def release_stock(self, payload: bytes) -> None:
        """Free what was reserved, or put back what was taken."""
        order_id = str(UUID(bytes=payload))
        request = stock_pb2.ReleaseReservationRequest(order_id=order_id, restock=True)
        await self._stock.ReleaseReservation(request)

    async def commit_stock(self, payload: bytes) -> None:
        """Take the goods of a paid order out of stock; give it up if they are no longer there."""
        order_id = UUID(bytes=payload)
        try:
            await self._stock.CommitReservation(
                stock_pb2.CommitReservationRequest(order_id=str(order_id))
            )
        except AioRpcError as error:
            refusal = clients.refusal(error)
            if refusal is None or refusal.reason not in _SOLD_OUT:
                raise
            await self._give_up(order_id)

    async def _give_up(self, order_id: UUID) -> None:
        async with self._db.transaction() as tx:
            order = await store.lock(tx, order_id)
            if rules.CANCELLED in rules.allowed(order["status"], By.SYSTEM):
                log.warning("a paid order is sold out", order=str(order_id))
                await cancel(tx, order, Event(OrderEvent.SYSTEM, None, SOLD_OUT_NOTE))
            elif order["status"] not in (rules.CANCELLED, rules.REFUNDED):
                log.error("the stock of an order that went on is gone", order=str(order_id))

    async def clear_cart(self, payload: bytes) -> None:
        """Take what was ordered out of the cart that it came from."""
        await self._basket.clear(UUID(bytes=payload))

    async def confirm(self, payload: bytes) -> None:
        """Tell the customer what they have bought."""
        async with self._db.connection() as connection:
            order = await store.get(connection, UUID(bytes=payload))
        if not order["email"]:  # the customer was erased
            return
        name = f"order-{order['id']}"
        await self._delivery.send(confirmation.compose(order, self._letterhead), name=name)

    async def close_payment(self, payload: bytes) -> None:
        """Have payments of a cancelled order ended, and given back."""
        if self._closures is not None:
            order_id = str(UUID(bytes=payload))
            note = "The order was cancelled."
            await self._closures.CloseOrder(
                closure_pb2.CloseOrderRequest(order_id=order_id, note=note)
            )
