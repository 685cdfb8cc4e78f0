"""The statements on payments and on the orders they are for.

Locks are taken in one order: the order, its payments by id, then what belongs to a payment
(refunds, outbox). No transaction waits for another service or for Stripe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by, insert

from services.kit import errors
from services.kit.db import Connection, Row, Statement
from services.kit.statements import json_object
from services.payment.tables import Moment, disputes, orders, payments, refunds

# The end of time, before which all payments were made.
LATEST = datetime.max.replace(tzinfo=UTC)

_ID = sa.bindparam("row_id", type_=sa.Uuid)
_ORDER = sa.bindparam("of_order", type_=sa.Uuid)
_NOW = sa.func.clock_timestamp()
# Written out, not parameters: only then does Postgres use the partial index.
_ACTIVE = sa.text("status IN (1, 2, 3, 7, 8, 9) AND NOT give_back")
_OPEN: list[sa.ColumnElement[int]] = [sa.literal_column(str(status)) for status in (1, 2, 8)]


def _after(seconds: str) -> sa.ColumnElement[Any]:
    return _NOW + sa.bindparam(seconds, type_=sa.Interval)


def _micros(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.cast(sa.func.extract("epoch", column) * 1_000_000, sa.BigInteger)


def _list(column: sa.ColumnElement[Any], table: sa.Table, where: sa.ColumnElement[bool]) -> Any:
    rows = sa.func.json_agg(aggregate_order_by(column, table.c.create_time, table.c.id))
    return sa.func.coalesce(
        sa.select(rows).where(where).scalar_subquery(), sa.cast(sa.text("'[]'"), sa.JSON)
    )


def _with_parts(rows: sa.FromClause) -> sa.Select[Any]:
    """Payments, with their refunds and disputes as lists of objects."""
    refund = json_object(
        {
            **{name: refunds.c[name] for name in ("id", "amount", "reason", "note", "status")},
            "create_time": _micros(refunds.c.create_time),
        }
    )
    dispute = json_object(
        {
            **{name: disputes.c[name] for name in ("id", "amount", "currency", "reason", "status")},
            "create_time": _micros(disputes.c.create_time),
            "update_time": _micros(disputes.c.update_time),
        }
    )
    return sa.select(
        rows,
        _list(refund, refunds, refunds.c.payment_id == rows.c.id).label("refunds"),
        _list(dispute, disputes, disputes.c.intent_id == rows.c.intent_id).label("disputes"),
    )


_NEW = (
    "id",
    "order_id",
    "user_id",
    "amount",
    "currency",
    "payment_method",
    "return_url",
    "idempotency_key",
    "fingerprint",
)
# What changes in the life of a payment.
_WRITABLE = (
    "status",
    "intent_id",
    "intent_status",
    "client_secret",
    "redirect_url",
    "failure_code",
    "failure_message",
    "card_brand",
    "card_last4",
    "captured",
    "refund_pending",
    "refunded",
    "give_back",
    "give_back_note",
    "idempotency_key",
    "fingerprint",
)


def _new(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(f"new_{name}", type_=payments.c[name].type)


_LOCK_ORDER = Statement(
    insert(orders)
    .values(id=_ORDER)
    # An update that changes nothing: it locks the row, whether it was there or not.
    .on_conflict_do_update(index_elements=["id"], set_={"close_note": orders.c.close_note})
    .returning(orders)
)
_CLOSE_ORDER = Statement(
    sa.update(orders)
    .where(orders.c.id == _ORDER)
    .values(close_time=_NOW, close_note=sa.bindparam("note", type_=sa.Text))
)
_INSERT = Statement(
    insert(payments)
    .values(
        {name: _new(name) for name in _NEW}
        | {
            "status": 1,
            "attempt_time": _NOW,
            "attempt_until": _after("lease"),
            "check_time": _after("lease"),
        }
    )
    .on_conflict_do_nothing()
    .returning(payments)
)
_ADOPT = Statement(
    insert(payments)
    .values(
        {name: _new(name) for name in _NEW}
        | {name: _new(name) for name in ("intent_id", "intent_status", "captured", "give_back")}
        | {"status": 3, "check_time": _NOW}
    )
    .on_conflict_do_nothing()
    .returning(payments)
)
_GET = Statement(_with_parts(payments).where(payments.c.id == _ID))
_FIND = Statement(sa.select(payments).where(payments.c.id == _ID))
_FIND_MANY = Statement(
    sa.select(payments).where(payments.c.id == sa.any_(sa.bindparam("ids", type_=ARRAY(sa.Uuid))))
)
_FIND_BY_INTENT = Statement(
    sa.select(payments).where(payments.c.intent_id == sa.bindparam("of_intent"))
)
_FIND_BY_KEY = Statement(
    sa.select(payments).where(
        payments.c.user_id == sa.bindparam("of_user", type_=sa.Uuid),
        payments.c.idempotency_key == sa.bindparam("of_key"),
    )
)
_FIND_ACTIVE = Statement(sa.select(payments).where(payments.c.order_id == _ORDER, _ACTIVE))
_LOCK = Statement(sa.select(payments).where(payments.c.id == _ID).with_for_update())
_LOCK_OF_ORDER = Statement(
    sa.select(payments)
    .where(payments.c.order_id == _ORDER)
    .order_by(payments.c.id)
    .with_for_update()
)
_WRITE = Statement(
    sa.update(payments)
    .where(payments.c.id == _ID)
    .values(
        {name: _new(name) for name in _WRITABLE}
        | {
            # Only the customer's step needs it, and a URL may tell of a person.
            "return_url": sa.case((_new("status").in_(_OPEN), payments.c.return_url), else_=""),
            "version": payments.c.version + 1,
            "update_time": _NOW,
        }
    )
    .returning(payments)
)
_TOUCH = Statement(
    sa.update(payments)
    .where(payments.c.intent_id == sa.bindparam("of_intent"))
    .values(version=payments.c.version + 1, update_time=_NOW)
)
_page = (
    sa.select(payments)
    .where(
        payments.c.order_id == _ORDER,
        sa.tuple_(payments.c.create_time, payments.c.id)
        < sa.tuple_(
            sa.bindparam("before_time", type_=Moment), sa.bindparam("before_id", type_=sa.Uuid)
        ),
    )
    .order_by(payments.c.create_time.desc(), payments.c.id.desc())
    .limit(sa.bindparam("most", type_=sa.Integer))
    .subquery("page")
)
_PAGE = Statement(_with_parts(_page).order_by(_page.c.create_time.desc(), _page.c.id.desc()))


async def lock_order(tx: Connection, order_id: UUID) -> Row:
    """What is known of an order, locked until the end; made when it is not known yet."""
    return await _LOCK_ORDER.one(tx, of_order=order_id)


async def close_order(tx: Connection, order_id: UUID, note: str) -> None:
    """Take note that no payment of a locked order may begin any more."""
    await _CLOSE_ORDER.run(tx, of_order=order_id, note=note)


async def insert_payment(tx: Connection, values: Mapping[str, Any], lease: timedelta) -> Row | None:
    """Add a payment that is about to be charged; None when its key or its order has another."""
    return await _INSERT.first(tx, **{f"new_{name}": values[name] for name in _NEW}, lease=lease)


async def adopt(tx: Connection, values: Mapping[str, Any]) -> Row | None:
    """Add a payment that was captured without our knowing; None when there is one by now."""
    return await _ADOPT.first(tx, **{f"new_{name}": value for name, value in values.items()})


async def get(connection: Connection, payment_id: UUID) -> Row:
    """A payment with its refunds and disputes. Raises NOT_FOUND."""
    row = await _GET.first(connection, row_id=payment_id)
    if row is None:
        raise errors.not_found("payment", payment_id)
    return row


async def find(connection: Connection, payment_id: UUID) -> Row | None:
    """A payment by its id."""
    return await _FIND.first(connection, row_id=payment_id)


async def find_many(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, Row]:
    """Payments by their ids."""
    return {row["id"]: row for row in await _FIND_MANY.all(connection, ids=list(ids))}


async def find_by_intent(connection: Connection, intent_id: str) -> Row | None:
    """The payment of a PaymentIntent."""
    return await _FIND_BY_INTENT.first(connection, of_intent=intent_id)


async def find_by_key(connection: Connection, user_id: UUID, key: str) -> Row | None:
    """The payment that a user began with an idempotency key."""
    return await _FIND_BY_KEY.first(connection, of_user=user_id, of_key=key)


async def find_active(connection: Connection, order_id: UUID) -> Row | None:
    """The one active payment of an order."""
    return await _FIND_ACTIVE.first(connection, of_order=order_id)


async def lock(tx: Connection, payment_id: UUID) -> Row:
    """A payment, locked until the end. Raises NOT_FOUND."""
    row = await _LOCK.first(tx, row_id=payment_id)
    if row is None:
        raise errors.not_found("payment", payment_id)
    return row


async def lock_of_order(tx: Connection, order_id: UUID) -> list[Row]:
    """All payments of an order, locked until the end."""
    return await _LOCK_OF_ORDER.all(tx, of_order=order_id)


async def write(tx: Connection, row: Row, changes: Mapping[str, Any]) -> Row:
    """Change a locked payment; other columns keep what `row` holds."""
    values = {f"new_{name}": changes.get(name, row[name]) for name in _WRITABLE}
    return await _WRITE.one(tx, row_id=row["id"], **values)


async def touch(tx: Connection, intent_id: str) -> None:
    """Take note that what belongs to the payment of a PaymentIntent has changed."""
    await _TOUCH.run(tx, of_intent=intent_id)


async def page(
    connection: Connection, order_id: UUID, before: tuple[datetime, UUID], most: int
) -> list[Row]:
    """Up to `most` payments of an order, newest first, before the key (create_time, id)."""
    return await _PAGE.all(
        connection, of_order=order_id, before_time=before[0], before_id=before[1], most=most
    )
