"""The statements of the lists: orders newest first, history oldest first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.kit.db import Connection, Row, Statement
from services.order.rules import Status
from services.order.store import with_lines
from services.order.tables import Moment, order_events, orders

# Bounds of what there is no bound for.
EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)

_USER = orders.c.user_id == sa.bindparam("of_user", type_=sa.Uuid)
_STATUS = orders.c.status == sa.bindparam("of_status", type_=sa.SmallInteger)


def _page(*where: sa.ColumnElement[bool]) -> Statement:
    before = sa.tuple_(orders.c.create_time, orders.c.id) < sa.tuple_(
        sa.bindparam("before_time", type_=Moment), sa.bindparam("before_id", type_=sa.Uuid)
    )
    page = (
        sa.select(orders)
        .where(*where, before, orders.c.create_time >= sa.bindparam("since", type_=Moment))
        .order_by(orders.c.create_time.desc(), orders.c.id.desc())
        .limit(sa.bindparam("most", type_=sa.Integer))
        .subquery("page")
    )
    return Statement(with_lines(page).order_by(page.c.create_time.desc(), page.c.id.desc()))


_ALL = _page()
_OF_STATUS = _page(_STATUS)
_OF_USER = _page(_USER)
_OF_USER_AND_STATUS = _page(_USER, _STATUS)

_EVENTS = Statement(
    sa.select(order_events)
    .where(
        order_events.c.order_id == sa.bindparam("of_order", type_=sa.Uuid),
        order_events.c.sequence > sa.bindparam("after", type_=sa.Integer),
    )
    .order_by(order_events.c.sequence)
    .limit(sa.bindparam("most", type_=sa.Integer))
)
_STATE = Statement(
    sa.select(
        orders.c.status,
        orders.c.payment_id,
        orders.c.refunded_total,
        orders.c.total,
        orders.c.last_sequence,
    ).where(orders.c.id == sa.bindparam("of_order", type_=sa.Uuid))
)


async def page(
    connection: Connection,
    *,
    before: tuple[datetime, UUID],
    most: int,
    status: Status,
    user_id: UUID | None = None,
    since: datetime = EARLIEST,
) -> list[Row]:
    """Up to `most` orders, newest first, that came before the key (create_time, id).

    Those of a user if one is given, of a status if it is not 0, made at `since` or later.
    """
    values: dict[str, Any] = {
        "before_time": before[0],
        "before_id": before[1],
        "most": most,
        "since": since,
    }
    if user_id is not None and status:
        return await _OF_USER_AND_STATUS.all(
            connection, of_user=user_id, of_status=status, **values
        )
    if user_id is not None:
        return await _OF_USER.all(connection, of_user=user_id, **values)
    if status:
        return await _OF_STATUS.all(connection, of_status=status, **values)
    return await _ALL.all(connection, **values)


async def events(connection: Connection, order_id: UUID, after: int, most: int) -> list[Row]:
    """Up to `most` events of an order that came after the sequence `after`."""
    return await _EVENTS.all(connection, of_order=order_id, after=after, most=most)


async def state(connection: Connection, order_id: UUID) -> Row | None:
    """What tells whether an order is final, and how long its history is."""
    return await _STATE.first(connection, of_order=order_id)
