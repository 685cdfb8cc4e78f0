"""The statements of the sweeper: which orders wait for somebody to end them."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa

from services.kit.db import Connection, Statement
from services.order.rules import AWAITING_PAYMENT, PENDING, Status
from services.order.tables import orders


def _is(status: Status) -> sa.ColumnElement[bool]:
    # Written out, not a parameter: only then does Postgres use the partial indexes.
    return orders.c.status == sa.literal_column(str(int(status)), sa.SmallInteger)


_ABANDONED = Statement(
    sa.select(orders.c.id)
    .where(
        _is(PENDING), orders.c.create_time < sa.func.now() - sa.bindparam("age", type_=sa.Interval)
    )
    .order_by(orders.c.create_time)
    .limit(sa.bindparam("most", type_=sa.Integer))
)
_EXPIRED = Statement(
    sa.select(orders.c.id)
    .where(_is(AWAITING_PAYMENT), orders.c.expire_time <= sa.func.now())
    .order_by(orders.c.expire_time)
    .limit(sa.bindparam("most", type_=sa.Integer))
)


async def abandoned(connection: Connection, age: timedelta, most: int) -> list[UUID]:
    """Orders that have been PENDING for longer than any call lasts, oldest first."""
    return [row["id"] for row in await _ABANDONED.all(connection, age=age, most=most)]


async def expired(connection: Connection, most: int) -> list[UUID]:
    """Orders whose time to be paid is over, oldest first."""
    return [row["id"] for row in await _EXPIRED.all(connection, most=most)]
