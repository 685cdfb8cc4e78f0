"""Records of made-up orders, with what belongs to them in the order and catalog schemas."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from uuid_utils.compat import uuid7

from cli.seed_people import REGION_CODE, address_of, pick
from services.kit.statements import Fields
from services.order import rules, totals
from services.order.checkout import GRACE
from shop.catalog.v1.stock_pb2 import Reservation
from shop.order.v1.order_pb2 import Order, OrderEvent

MOST_LINES = 3
MOST_PIECES = 2
# Orders wait for their payment for this long, so that there are some to look at.
PAYMENT_TIME = timedelta(days=30)

# Where the first event comes from.
_NOWHERE = Order.STATUS_UNSPECIFIED
_MADE = (rules.PENDING, rules.AWAITING_PAYMENT)
_SHIPPED = (*_MADE, rules.PAID, rules.FULFILLING, rules.SHIPPED)
# How an order gets into its status, and how many of a hundred are in it.
HISTORIES: Sequence[tuple[tuple[rules.Status, ...], int]] = (
    (_MADE, 5),
    ((*_MADE, rules.PAID), 7),
    ((*_MADE, rules.PAID, rules.FULFILLING), 5),
    (_SHIPPED, 8),
    ((*_SHIPPED, rules.DELIVERED), 60),
    ((*_MADE, rules.CANCELLED), 10),
    ((*_SHIPPED, rules.DELIVERED, rules.REFUNDED), 3),
    ((*_SHIPPED, rules.DELIVERED, rules.PARTIALLY_REFUNDED), 2),
)
_BY_STAFF = {rules.FULFILLING, rules.SHIPPED, rules.DELIVERED}

_STATES: Mapping[rules.Status, Reservation.State.ValueType] = {
    rules.AWAITING_PAYMENT: Reservation.ACTIVE,
    rules.CANCELLED: Reservation.RELEASED,
}

ORDER = [
    "id",
    "number",
    "user_id",
    "email",
    "status",
    "currency",
    "subtotal",
    "shipping_total",
    "tax_total",
    "tax_included",
    "total",
    "refunded_total",
    "shipping_address",
    "shipping_phone",
    "note",
    "payment_id",
    "last_sequence",
    "expire_time",
    "version",
    "create_time",
    "update_time",
]


class Shop(NamedTuple):
    """What orders are made of; `rates` is a row of `rate_store.rates`."""

    customers: Sequence[Fields]
    goods: Sequence[Fields]
    snapshots: Mapping[UUID, bytes]
    rates: Fields
    staff: UUID | None


class Rows(NamedTuple):
    """Records of the tables, in the order of their columns above."""

    orders: list[tuple[Any, ...]]
    lines: list[tuple[Any, ...]]
    events: list[tuple[Any, ...]]
    settlements: list[tuple[Any, ...]]
    reservations: list[tuple[Any, ...]]
    reserved: list[tuple[Any, ...]]
    # What is sold (order, variant, pieces), and by variant what is held.
    sales: list[tuple[UUID, UUID, int]]
    held: Counter[UUID]


def histories(luck: random.Random) -> Iterator[tuple[rules.Status, ...]]:
    """Each history once, so that few orders are in all statuses; then as often as they are had."""
    choices, weights = zip(*HISTORIES, strict=True)
    yield from choices
    while True:
        yield luck.choices(choices, weights)[0]


def rows_of(luck: random.Random, shop: Shop, batch: Sequence[tuple[rules.Status, ...]]) -> Rows:
    """The records of a batch, one order for each history."""
    rows = Rows([], [], [], [], [], [], [], Counter())
    now = datetime.now(UTC)
    for history in batch:
        _add(luck, shop, history, now, rows)
    return rows


def _add(
    luck: random.Random, shop: Shop, history: Sequence[rules.Status], now: datetime, rows: Rows
) -> None:
    """Add the records of one order."""
    order_id, status = uuid7(), history[-1]
    customer = luck.choice(shop.customers)
    lines = [(thing, luck.randint(1, MOST_PIECES)) for thing in pick(luck, shop.goods, MOST_LINES)]
    sums = totals.totals(
        [(thing["price"], pieces) for thing, pieces in lines], shop.rates, REGION_CODE
    )
    unpaid = status in (rules.AWAITING_PAYMENT, rules.CANCELLED)
    payment_id = None if unpaid else uuid7()
    refunded = {rules.REFUNDED: sums.total, rules.PARTIALLY_REFUNDED: sums.total // 2}
    given_back = refunded.get(status, 0)
    waits = status == rules.AWAITING_PAYMENT
    times = _times(luck, history, now)
    expire_time = now + PAYMENT_TIME if waits else None

    for sequence, (before, after) in enumerate(itertools.pairwise((_NOWHERE, *history)), start=1):
        actor, user_id = _actor(after, customer, shop.staff)
        time = times[sequence - 1]
        rows.events.append((order_id, sequence, before, after, actor, user_id, "", time))
    record = {
        **sums._asdict(),
        "id": order_id,
        "number": rules.new_number(),
        "user_id": customer["id"],
        "email": customer["email"],
        "status": status,
        "currency": lines[0][0]["currency"],
        "refunded_total": given_back,
        "shipping_address": address_of(luck, customer["full_name"] or customer["email"]),
        "shipping_phone": "",
        "note": "",
        "payment_id": payment_id,
        "last_sequence": len(history),
        "expire_time": expire_time,
        "version": len(history),
        "create_time": times[0],
        "update_time": times[-1],
    }
    rows.orders.append(tuple(record[name] for name in ORDER))
    if payment_id is not None:
        rows.settlements.append((order_id, payment_id, rules.ACCEPTED, given_back, times[2]))

    state = _STATES.get(status, Reservation.COMMITTED)
    until = (expire_time or times[0] + PAYMENT_TIME) + GRACE
    rows.reservations.append((order_id, state, until, times[0]))
    for number, (thing, pieces) in enumerate(lines):
        rows.lines.append(
            (
                order_id,
                number,
                uuid7(),
                thing["id"],
                thing["product_id"],
                thing["product_name"],
                thing["sku"],
                thing["options"],
                pieces,
                thing["price"],
            )
        )
        snapshot = shop.snapshots[thing["id"]]
        rows.reserved.append((order_id, number, thing["id"], pieces, snapshot))
        if state == Reservation.ACTIVE:
            rows.held[thing["id"]] += pieces
        elif state == Reservation.COMMITTED:
            rows.sales.append((order_id, thing["id"], pieces))


def _times(luck: random.Random, history: Sequence[rules.Status], now: datetime) -> list[datetime]:
    """When an order was made, and when it got into each of its statuses: all in the past."""
    waits = history[-1] == rules.AWAITING_PAYMENT
    age = timedelta(days=luck.uniform(1, 10) if waits else luck.uniform(8, 365))
    steps = [timedelta(), timedelta(seconds=0.05), timedelta(minutes=luck.uniform(1, 14))]
    steps += [timedelta(hours=luck.uniform(1, 24)) for _ in history[len(steps) :]]
    made = now - age
    return [made + step for step in itertools.accumulate(steps[: len(history)], initial=None)]


def _actor(
    status: rules.Status, customer: Fields, staff: UUID | None
) -> tuple[OrderEvent.Actor.ValueType, UUID | None]:
    """Who moved an order to a status; what staff do the shop does itself where there is nobody."""
    if status in (rules.PENDING, rules.CANCELLED):
        return OrderEvent.OWNER, customer["id"]
    if status in _BY_STAFF and staff is not None:
        return OrderEvent.STAFF, staff
    return OrderEvent.SYSTEM, None
