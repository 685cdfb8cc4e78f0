"""Every statement on orders, their lines and their history.

Locks are taken in one order: the order, then what belongs to it (events, settlements, outbox). No
transaction holds two orders, and none waits for another service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by, insert

from services.kit import errors, statements
from services.kit.db import Connection, Row, Statement, Transaction
from services.kit.ids import uuid7
from services.order import rate_store, tallies
from services.order.rules import PENDING
from services.order.tables import erased_users, order_events, order_lines, orders
from shop.order.v1.order_pb2 import OrderEvent

# Told the id of an order whenever its history grows.
CHANNEL = "order_events"

_ID = sa.bindparam("row_id", type_=sa.Uuid)


def with_lines(rows: sa.FromClause, of: sa.FromClause = order_lines) -> sa.Select[Any]:
    """Orders, with their lines as a list of objects; `of` is where the lines are."""
    line = of.c
    columns = ("id", "variant_id", "product_id", "product_name", "sku", "options", "quantity")
    fields = [
        part for name in (*columns, "unit_price") for part in (sa.text(f"'{name}'"), line[name])
    ]
    lines = (
        sa.select(
            sa.func.jsonb_agg(aggregate_order_by(sa.func.jsonb_build_object(*fields), line.line))
        )
        .where(line.order_id == rows.c.id)
        .scalar_subquery()
    )
    return sa.select(rows, sa.func.coalesce(lines, sa.cast(sa.text("'[]'"), JSONB)).label("lines"))


_NEW = (
    "id",
    "number",
    "user_id",
    "email",
    "shipping_address",
    "shipping_phone",
    "note",
    "cart_id",
    "cart_etag",
    "idempotency_key",
    "fingerprint",
    "demand",
    "expected_total",
    "expected_currency",
)
# What changes in the life of an order.
_WRITABLE = (
    "status",
    "currency",
    "subtotal",
    "shipping_total",
    "tax_total",
    "tax_included",
    "total",
    "refunded_total",
    "tracking",
    "note",
    "payment_id",
    "expire_time",
)


def _new(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(f"new_{name}", type_=orders.c[name].type)


def _insert() -> sa.Select[Any]:
    new = statements.rows("new", **{name: orders.c[name].type for name in _NEW})
    made = (
        insert(orders)
        .from_select(
            [*_NEW, "status"],
            sa.select(*(new.c[name] for name in _NEW), sa.literal_column(str(int(PENDING)))),
        )
        .on_conflict_do_nothing()
        .returning(orders)
        .cte("made")
    )
    first = sa.insert(order_events).from_select(
        ["order_id", "sequence", "from_status", "to_status", "actor", "user_id", "note"],
        sa.select(
            made.c.id,
            sa.literal_column("1"),
            sa.literal_column("0"),
            made.c.status,
            sa.literal_column(str(int(OrderEvent.OWNER))),
            made.c.user_id,
            sa.literal_column("''"),
        ),
    )
    region = made.c.shipping_address["region_code"].as_string()
    return sa.select(made, *rate_store.of_region(region)).add_cte(first.cte("first"))


def event_of(written: sa.CTE, *said: Any) -> Any:
    """The event of an order that was written: `said` is what stands between its number and time."""
    return sa.insert(order_events).from_select(
        [column.name for column in order_events.columns],
        sa.select(written.c.id, written.c.last_sequence, *said, written.c.update_time),
    )


def _write(lines_of: Callable[[sa.CTE], sa.CTE] | None = None) -> sa.Select[Any]:
    """Write an order and the event that tells of it, and wake those who watch it.

    `lines_of` inserts the lines of what is written.
    """
    demand = sa.case((_new("status") == PENDING, orders.c.demand), else_=None)
    written = (
        sa.update(orders)
        .where(orders.c.id == _ID)
        .values(
            {name: _new(name) for name in _WRITABLE}
            | {
                "demand": demand,
                "last_sequence": orders.c.last_sequence + 1,
                "version": orders.c.version + 1,
                # Not the begin of the transaction: it may have waited for the lock.
                "update_time": sa.func.clock_timestamp(),
            }
        )
        .returning(orders)
        .cte("written")
    )
    event = event_of(
        written,
        sa.bindparam("from_status", type_=sa.SmallInteger),
        written.c.status,
        sa.bindparam("actor", type_=sa.SmallInteger),
        sa.bindparam("user_id", type_=sa.Uuid),
        sa.bindparam("event_note", type_=sa.Text),
    )
    told = sa.func.pg_notify(CHANNEL, sa.cast(written.c.id, sa.Text))
    lines = order_lines if lines_of is None else lines_of(written)
    rows = with_lines(written, lines)
    return rows.add_columns(told).add_cte(event.cte("event"))


_INSERT = Statement(_insert())
_WRITE = Statement(_write())
_GET = Statement(with_lines(orders).where(orders.c.id == _ID))
IS_ERASED = sa.exists().where(erased_users.c.user_id == orders.c.user_id)
_locked = (
    sa.select(orders, IS_ERASED.label("user_is_erased"))
    .where(orders.c.id == _ID)
    .with_for_update(of=orders)
)
_LOCK = Statement(_locked)
_LOCK_TO_PLACE = Statement(
    rate_store.add_rates(_locked, region=orders.c.shipping_address["region_code"].as_string())
)
_FIND_BY_KEY = Statement(
    with_lines(orders).where(
        orders.c.user_id == sa.bindparam("of_user", type_=sa.Uuid),
        orders.c.idempotency_key == sa.bindparam("of_key"),
    )
)
_FIND_BY_CART = Statement(
    with_lines(orders)
    .where(
        orders.c.cart_id == sa.bindparam("of_cart", type_=sa.Uuid),
        sa.text("status <> 7"),
        sa.or_(~orders.c.cart_cleared, orders.c.cart_etag == sa.bindparam("of_etag")),
    )
    # Should there be two: the one that the cart is still to be cleared for.
    .order_by(orders.c.cart_cleared)
    .limit(1)
)
_CART_CLEARED = Statement(sa.update(orders).where(orders.c.id == _ID).values(cart_cleared=True))
_DELETE = Statement(sa.delete(orders).where(orders.c.id == _ID))
_LINE_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "line": sa.SmallInteger(),
    "id": sa.Uuid(),
    "variant_id": sa.Uuid(),
    "product_id": sa.Uuid(),
    "product_name": sa.Text(),
    "sku": sa.Text(),
    "options": JSONB(),
    "quantity": sa.Integer(),
    "unit_price": sa.BigInteger(),
}
_lines = statements.rows("line", order_id=sa.Uuid(), **_LINE_TYPES)


def insert_lines_of(written: sa.CTE) -> sa.CTE:
    names = ["order_id", *_LINE_TYPES]
    return (
        sa.insert(order_lines)
        .from_select(
            names,
            sa.select(*(_lines.c[name] for name in names)).join_from(
                _lines, written, written.c.id == _lines.c.order_id
            ),
        )
        .returning(order_lines)
        .cte("inserted")
    )


_PLACE = Statement(_write(insert_lines_of))


class Event(NamedTuple):
    """Who changed an order, and why."""

    actor: OrderEvent.Actor.ValueType
    user_id: UUID | None
    note: str


async def insert_orders(
    connection: Connection, drafts: Sequence[Mapping[str, Any]]
) -> list[Row | None]:
    """Add PENDING orders with their first events; with what `rate_store.within` needs.

    None for one whose number is taken, or of whose idempotency key or cart there is one: a call
    that is just making that is waited for.
    """
    arrays = {f"new_{name}": [draft[name] for draft in drafts] for name in _NEW}
    made = {row["id"]: row for row in await _INSERT.all(connection, **arrays)}
    return [made.get(draft["id"]) for draft in drafts]


async def find(connection: Connection, order_id: UUID) -> Row | None:
    """An order with its lines."""
    return await _GET.first(connection, row_id=order_id)


async def get(connection: Connection, order_id: UUID) -> Row:
    """An order with its lines. Raises NOT_FOUND."""
    row = await find(connection, order_id)
    if row is None:
        raise errors.not_found("order", order_id)
    return row


async def find_by_key(connection: Connection, user_id: UUID, key: str) -> Row | None:
    """The order that a user made with an idempotency key."""
    return await _FIND_BY_KEY.first(connection, of_user=user_id, of_key=key)


async def find_by_cart(connection: Connection, cart_id: UUID, etag: str) -> Row | None:
    """The order that a cart is, or the one in which its content was ordered."""
    return await _FIND_BY_CART.first(connection, of_cart=cart_id, of_etag=etag)


async def cart_is_cleared(connection: Connection, order_id: UUID) -> None:
    """Take note that what was ordered is out of the cart, which may become another order."""
    await _CART_CLEARED.run(connection, row_id=order_id)


async def find_and_lock(tx: Connection, order_id: UUID) -> Row | None:
    """An order without its lines, locked until the end; and `user_is_erased`, of its user."""
    return await _LOCK.first(tx, row_id=order_id)


async def lock_to_place(tx: Connection, order_id: UUID, currency: str) -> Row | None:
    """As `find_and_lock`; and what `totals.totals` calculates with, for the order's country."""
    return await _LOCK_TO_PLACE.first(tx, row_id=order_id, of_currency=currency)


async def lock(tx: Connection, order_id: UUID) -> Row:
    """An order without its lines, locked until the end. Raises NOT_FOUND."""
    row = await find_and_lock(tx, order_id)
    if row is None:
        raise errors.not_found("order", order_id)
    return row


async def write(tx: Transaction, row: Row, changes: Mapping[str, Any], event: Event) -> Row:
    """Change a locked order and add to its history; other columns keep what `row` holds."""
    after = await _WRITE.one(tx, **_written(row, changes, event))
    if after["status"] != row["status"]:
        tallies.moved(tx, after)
    return after


async def place(
    tx: Transaction,
    row: Row,
    changes: Mapping[str, Any],
    event: Event,
    lines: Sequence[Mapping[str, Any]],
) -> Row:
    """The same, and add the order's lines, in this order."""
    arguments = _written(row, changes, event) | line_arguments([(row["id"], lines)])
    after = await _PLACE.one(tx, **arguments)
    tallies.moved(tx, after)
    return after


def line_arguments(
    orders: Sequence[tuple[UUID, Sequence[Mapping[str, Any]]]],
) -> dict[str, list[Any]]:
    each = [
        {"order_id": id, "line": number, **line}
        for id, lines in orders
        for number, line in enumerate(lines)
    ]
    return {f"line_{name}": [line[name] for line in each] for name in ("order_id", *_LINE_TYPES)}


def _written(row: Row, changes: Mapping[str, Any], event: Event) -> dict[str, Any]:
    return {
        "row_id": row["id"],
        "from_status": row["status"],
        "actor": event.actor,
        "user_id": event.user_id,
        "event_note": event.note,
        **{f"new_{name}": changes.get(name, row[name]) for name in _WRITABLE},
    }


async def delete(tx: Connection, order_id: UUID) -> None:
    """Remove a PENDING order: nothing was ordered. The database keeps others."""
    await _DELETE.run(tx, row_id=order_id)


def new_line(**fields: Any) -> dict[str, Any]:
    """A line for `place`."""
    return {"id": uuid7(), **fields}
