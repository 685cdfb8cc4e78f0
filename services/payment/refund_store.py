"""The statements on refunds. Their payment's row is locked before they are changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.kit.db import Connection, Row, Statement
from services.payment.tables import refunds

_NEW = (
    "id",
    "payment_id",
    "amount",
    "reason",
    "note",
    "status",
    "stripe_id",
    "user_id",
    "idempotency_key",
    "fingerprint",
)
_WRITABLE = ("status", "stripe_id", "failure_code")

_ID = sa.bindparam("row_id", type_=sa.Uuid)
_PAYMENT = sa.bindparam("of_payment", type_=sa.Uuid)


def _new(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(f"new_{name}", type_=refunds.c[name].type)


_INSERT = Statement(
    insert(refunds)
    .values({name: _new(name) for name in _NEW})
    .on_conflict_do_nothing()
    .returning(refunds)
)
_FIND_BY_KEY = Statement(
    sa.select(refunds).where(
        refunds.c.user_id == sa.bindparam("of_user", type_=sa.Uuid),
        refunds.c.idempotency_key == sa.bindparam("of_key"),
    )
)
_FIND = Statement(sa.select(refunds).where(refunds.c.id == _ID))
_OF_PAYMENT = Statement(
    sa.select(refunds)
    .where(refunds.c.payment_id == _PAYMENT)
    .order_by(refunds.c.create_time, refunds.c.id)
)
_WRITE = Statement(
    sa.update(refunds)
    .where(refunds.c.id == _ID)
    .values({name: _new(name) for name in _WRITABLE} | {"update_time": sa.func.clock_timestamp()})
    .returning(refunds)
)
_DELETE = Statement(sa.delete(refunds).where(refunds.c.id == _ID))


async def insert_refund(tx: Connection, values: Mapping[str, Any]) -> Row | None:
    """Add a refund; None when there is one of its idempotency key, or of Stripe's id."""
    return await _INSERT.first(tx, **{f"new_{name}": values.get(name) for name in _NEW})


async def find_by_key(connection: Connection, user_id: UUID, key: str) -> Row | None:
    """The refund that a user asked for with an idempotency key."""
    return await _FIND_BY_KEY.first(connection, of_user=user_id, of_key=key)


async def find(connection: Connection, refund_id: UUID) -> Row | None:
    """A refund."""
    return await _FIND.first(connection, row_id=refund_id)


async def of_payment(connection: Connection, payment_id: UUID) -> list[Row]:
    """The refunds of a payment, oldest first."""
    return await _OF_PAYMENT.all(connection, of_payment=payment_id)


async def write(tx: Connection, row: Row, changes: Mapping[str, Any]) -> Row:
    """Change a refund; other columns keep what `row` holds."""
    values = {f"new_{name}": changes.get(name, row[name]) for name in _WRITABLE}
    return await _WRITE.one(tx, row_id=row["id"], **values)


async def withdraw(tx: Connection, refund_id: UUID) -> None:
    """Remove a refund that never left this service."""
    await _DELETE.run(tx, row_id=refund_id)
