"""The one flow over several services: from a request to an order whose stock is held.

    transaction 1   the order is written as PENDING, bound to its idempotency key and its cart
    call            CheckoutService.GetCheckoutCart: is all of it still in the cart?
    call            StockService.ReserveStock, idempotent by the order's id (`reservations`)
    transaction 2   the order is priced and AWAITING_PAYMENT
                    (or deleted, and its stock released: nothing was ordered)

`finish` does what is left of it, whoever calls: the handler, another call with the same key or for
the same cart, or the sweeper after a crash. All of them may do so at the same time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from grpc import StatusCode
from grpc.aio import AioRpcError

from services.kit import call
from services.kit.call import Claim
from services.kit.db import Connection, Database, Row, Transaction
from services.kit.errors import ServiceError
from services.kit.money import to_minor
from services.kit.statements import Fields
from services.kit.together import Together
from services.order import (
    erasure_store,
    follow_ups,
    placement_store,
    rate_store,
    rules,
    store,
    tallies,
    totals,
)
from services.order.basket import Basket
from services.order.faults import Faults, Point
from services.order.placement_store import Priced
from services.order.reservations import Reservations
from services.order.store import Event
from shop.catalog.v1 import stock_pb2
from shop.order.v1 import order_pb2
from shop.order.v1.order_pb2 import OrderEvent

# The reservation outlives the order's time to be paid: its stock is freed by the order's end, not
# under it, and by itself only when this service is away.
GRACE = timedelta(seconds=60)
ATTEMPTS = 4
REPLACED_NOTE = "Replaced by a new order of the same cart."

# What says that the order cannot be made, however often that is tried.
FINAL = {StatusCode.FAILED_PRECONDITION, StatusCode.NOT_FOUND, StatusCode.ABORTED}
_SYSTEM = Event(OrderEvent.SYSTEM, None, "")


class Checkout:
    """Makes orders."""

    def __init__(
        self,
        database: Database,
        basket: Basket,
        reservations: Reservations,
        *,
        payment_time: timedelta,
        faults: Faults,
    ) -> None:
        """`payment_time` is how long an order waits for its payment."""
        self._db = database
        self._basket = basket
        self._reservations = reservations
        self._payment_time = payment_time
        self._faults = faults
        self._inserts: Together[dict[str, Any], Row | None] = Together(self._insert)
        self._placements: Together[Priced, dict[str, Any] | None] = Together(self._place_all)

    async def create(self, request: order_pb2.CreateOrderRequest) -> Fields:
        """The order that a request makes, or has made before. Raises what CreateOrder may."""
        claim = call.current().claim
        for _ in range(ATTEMPTS):
            try:
                draft = await self._basket.draft(request, claim, self._payment_time + GRACE)
            except (ServiceError, AioRpcError):
                # A repeated call: its cart may be empty by now, or another service away.
                order = await self._made_before(claim)
                if order is None:
                    raise
            else:
                order = await self._begin(draft)
            if order is None:
                continue
            try:
                return await self.finish(order)
            except ServiceError as refusal:
                if refusal.code is not StatusCode.ABORTED:
                    raise  # else another call has given the order up: make it anew
        raise rules.conflict()

    async def _made_before(self, claim: Claim | None) -> Row | None:
        """The order that the same key has made. Raises IDEMPOTENCY_KEY_REUSED."""
        if claim is None:
            return None
        async with self._db.connection() as connection:
            order = await store.find_by_key(connection, call.user_id(), claim.key)
        if order is not None:
            rules.check_same_request(order, claim)
        return order

    async def _begin(self, draft: dict[str, Any]) -> Row | None:
        """Write the order, or find the one of the same key or the same cart.

        None when the draft has to be made anew: another order of the cart was in its way.
        """
        order = await self._inserts.do(draft)
        if order is not None:
            return order
        async with self._db.transaction(keyed=False) as tx:
            order = await self._other(tx, draft)
            if order is None or not _is_outdated(order, draft):
                return order
            cancelled = await self._replace(tx, order)
        if cancelled is not None:
            # At once, for the order that takes its place; the outbox does it too, should this fail.
            await self._reservations.release(cancelled["id"])
        else:
            await self._basket.clear(order["id"])
        return None

    async def _insert(self, drafts: Sequence[dict[str, Any]]) -> list[Row | None]:
        async with self._db.statement() as connection:
            return await store.insert_orders(connection, drafts)

    async def _other(self, tx: Connection, draft: dict[str, Any]) -> Row | None:
        """The order in whose way `draft` is; None when it has just gone, or is of neither."""
        claim = call.current().claim
        if claim is not None:
            order = await store.find_by_key(tx, draft["user_id"], claim.key)
            if order is not None:
                rules.check_same_request(order, claim)
                return order
        if draft["cart_id"] is None:
            return None
        return await store.find_by_cart(tx, draft["cart_id"], draft["cart_etag"])

    async def _replace(self, tx: Transaction, order: Row) -> Row | None:
        """Cancel an unpaid order whose cart has changed since; None when it is paid."""
        locked = await store.find_and_lock(tx, order["id"])
        if locked is None or locked["status"] not in (rules.PENDING, rules.AWAITING_PAYMENT):
            return None
        event = Event(OrderEvent.OWNER, locked["user_id"], REPLACED_NOTE)
        return await follow_ups.cancel(tx, locked, event)

    async def finish(self, order: Row) -> Fields:
        """Bring a PENDING order to its end, and answer it as it is then, with its lines.

        Raises what CreateOrder may; then the order is no more. While another service is away it
        raises UNAVAILABLE or the like; then the order stays PENDING, and the sweeper goes on.
        """
        if order["status"] != rules.PENDING:
            return order
        self._faults.reach(Point.AFTER_ORDER)
        try:
            if not await self._basket.still_holds(order):
                raise rules.conflict()
            demand = stock_pb2.ReserveStockRequest.FromString(order["demand"])
            reservation = await self._reservations.hold(demand)
            self._faults.reach(Point.AFTER_RESERVE)
            placed = await self._place(order, reservation)
        except ServiceError as refusal:
            if refusal.code not in FINAL:
                raise
            other = await self._give_up(order)
            if other is not None:
                return other
            raise
        self._faults.reach(Point.AFTER_PLACE)
        return placed

    async def _place_at_once(self, order: Row, reservation: stock_pb2.Reservation) -> Fields | None:
        """Price the order by its reservation, in one statement, if this call has just written it.

        None when there is more to it.
        """
        if "shipping_rates" not in order:
            return None
        lines, currency = _lines(reservation)
        changes = _priced(order, reservation, lines, rate_store.within(order, currency), currency)
        if changes["total"] == 0:
            return None
        placed = await self._placements.do(Priced(order, changes, lines))
        if placed is not None:
            tallies.count(placed)
        return placed

    async def _place_all(self, orders: Sequence[Priced]) -> list[dict[str, Any] | None]:
        async with self._db.statement() as connection:
            return await placement_store.place_unchanged(connection, orders)

    async def _place(self, order: Row, reservation: stock_pb2.Reservation) -> Fields:
        """Price the order by its reservation, unless another call has done so."""
        placed = await self._place_at_once(order, reservation)
        if placed is not None:
            return placed
        lines, currency = _lines(reservation)
        async with self._db.transaction(keyed=False) as tx:
            locked = await store.lock_to_place(tx, order["id"], currency)
            if locked is None:
                raise rules.conflict()
            if locked["status"] != rules.PENDING:
                return await store.get(tx, order["id"])
            changes = _priced(order, reservation, lines, locked, currency)
            placed = await store.place(tx, locked, changes, _SYSTEM, lines)
            if changes["total"] == 0:
                placed = await follow_ups.pay(tx, placed, None)
            if locked["user_is_erased"]:  # while the order was being made
                await erasure_store.erase(tx, locked["user_id"])
                placed = await store.get(tx, order["id"])
            return placed

    async def _give_up(self, order: Row) -> Row | None:
        """Delete a PENDING order and have its stock released; one in another status is answered."""
        async with self._db.transaction(keyed=False) as tx:
            locked = await store.find_and_lock(tx, order["id"])
            if locked is not None and locked["status"] != rules.PENDING:
                return await store.get(tx, order["id"])
            if locked is not None:
                await store.delete(tx, order["id"])
                await follow_ups.restock(tx, order)
        self._faults.reach(Point.AFTER_REFUSAL)
        return None


def _is_outdated(order: Row, draft: dict[str, Any]) -> bool:
    """Whether `order` is another one, of an earlier content of the draft's cart."""
    return bool(
        order["id"] != draft["id"]
        and draft["cart_id"] is not None
        and order["cart_etag"] != draft["cart_etag"]
        and (
            order["idempotency_key"] is None or order["idempotency_key"] != draft["idempotency_key"]
        )
    )


def _lines(reservation: stock_pb2.Reservation) -> tuple[list[dict[str, Any]], str]:
    """The lines of an order, and its currency. Raises LIMIT_REACHED."""
    pieces: Counter[str] = Counter()
    lines = []
    for line in reservation.lines:
        variant = line.variant
        pieces[variant.id] += line.quantity
        lines.append(
            store.new_line(
                variant_id=variant.id,
                product_id=variant.product_id,
                product_name=variant.product_name,
                sku=variant.sku,
                options=dict(variant.options),
                quantity=line.quantity,
                unit_price=to_minor(variant.price, "unit_price"),
            )
        )
    rules.check_pieces(pieces)
    return lines, reservation.lines[0].variant.price.currency_code


def _priced(
    order: Row,
    reservation: stock_pb2.Reservation,
    lines: list[dict[str, Any]],
    rates: Fields,
    currency: str,
) -> dict[str, Any]:
    """What placing it changes of an order. Raises SHIPPING_UNAVAILABLE, TOTAL_CHANGED."""
    sums = totals.totals(
        [(line["unit_price"], line["quantity"]) for line in lines],
        rates,
        order["shipping_address"]["region_code"],
    )
    rules.check_expected(order, sums.total, currency)
    expire_time = reservation.expire_time.ToDatetime(order["create_time"].tzinfo) - GRACE
    return sums._asdict() | {
        "status": rules.AWAITING_PAYMENT,
        "currency": currency,
        "expire_time": expire_time,
    }
