"""The statements on when payments are worked on, and by whom: attempts, looks, leases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.kit.db import Connection, Row, Statement
from services.payment.tables import Moment, payments
from shop.payment.v1.payment_pb2 import Payment

_ID = sa.bindparam("row_id", type_=sa.Uuid)
_NOW = sa.func.clock_timestamp()


def _after(seconds: str) -> sa.ColumnElement[Any]:
    return _NOW + sa.bindparam(seconds, type_=sa.Interval)


_SCHEDULE = Statement(
    sa.update(payments)
    .where(payments.c.id == _ID)
    # Not when somebody asked meanwhile for another look.
    .where(payments.c.check_time.is_not_distinct_from(sa.bindparam("seen", type_=Moment)))
    .values(check_time=_after("pause"), checks=sa.bindparam("new_checks", type_=sa.Integer))
)
_CHECK_WITHIN = Statement(
    sa.update(payments)
    .where(payments.c.id == _ID)
    # LEAST leaves out what is null.
    .values(check_time=sa.func.least(payments.c.check_time, _after("pause")))
)
_CHECK_NOW = Statement(
    sa.update(payments)
    .where(
        sa.or_(
            payments.c.id == _ID,
            payments.c.intent_id == sa.bindparam("of_intent", type_=sa.Text),
        )
    )
    .where(sa.or_(payments.c.captured == 0, sa.bindparam("captured_too", type_=sa.Boolean)))
    .values(check_time=_NOW, checks=0)
)
_BEGIN_ATTEMPT = Statement(
    sa.update(payments)
    .where(payments.c.id == _ID)
    .where(sa.or_(payments.c.attempt_until.is_(None), payments.c.attempt_until < _NOW))
    .values(attempts=payments.c.attempts + 1, attempt_time=_NOW, attempt_until=_after("lease"))
    .returning(payments)
)
_END_ATTEMPT = Statement(
    sa.update(payments)
    .where(payments.c.id == _ID)
    .values(attempt_until=None, check_time=_NOW + timedelta(seconds=1), checks=0)
)
_WITHDRAW = Statement(
    sa.delete(payments).where(
        payments.c.id == _ID, payments.c.attempts == 1, payments.c.intent_id.is_(None)
    )
)
_due = (
    sa.select(payments.c.id)
    .where(payments.c.check_time <= _NOW)
    .order_by(payments.c.check_time)
    .limit(sa.bindparam("most", type_=sa.Integer))
    .with_for_update(skip_locked=True)
    .cte("due")
)
_LEASE_DUE = Statement(
    sa.update(payments)
    .where(payments.c.id == _due.c.id)
    .values(check_time=_after("lease"))
    .returning(payments)
)
_open = (
    sa.select(payments.c.id)
    .where(payments.c.check_time.is_not(None), payments.c.id > sa.bindparam("last", type_=sa.Uuid))
    .order_by(payments.c.id)
    .limit(sa.bindparam("most", type_=sa.Integer))
    .with_for_update()
    .cte("open")
)
_LEASE_OPEN = Statement(
    sa.update(payments)
    .where(payments.c.id == _open.c.id)
    .values(check_time=_after("lease"))
    .returning(payments)
)
_UNSETTLED = Statement(
    sa.select(payments.c.status, sa.func.count().label("number"))
    .where(sa.text("status IN (1, 2, 8, 9)"))
    .group_by(payments.c.status)
)
_OWED = Statement(
    sa.select(sa.func.count()).where(
        sa.or_(
            payments.c.refund_pending > 0,
            sa.and_(payments.c.give_back, payments.c.captured > payments.c.refunded),
        )
    )
)


async def schedule(connection: Connection, seen: Row, pause: timedelta | None) -> None:
    """Have a payment looked at after a pause; None: not any more.

    `seen` is the payment before Stripe was asked: a look that was asked for since then stays.
    """
    await _SCHEDULE.run(
        connection,
        row_id=seen["id"],
        seen=seen["check_time"],
        pause=pause,
        new_checks=0 if pause is None else seen["checks"] + 1,
    )


async def check_within(connection: Connection, payment_id: UUID, pause: timedelta) -> None:
    """Have a payment looked at after a pause, unless that is due before."""
    await _CHECK_WITHIN.run(connection, row_id=payment_id, pause=pause)


async def check_now(
    connection: Connection, intent_id: str, *, payment_id: UUID | None, captured_too: bool = False
) -> int:
    """Have a payment, or that of a PaymentIntent, looked at now; how many there are.

    One that was captured only for news of refunds: nothing else can happen to it.
    """
    return await _CHECK_NOW.run(
        connection, row_id=payment_id, of_intent=intent_id, captured_too=captured_too
    )


async def begin_attempt(connection: Connection, payment_id: UUID, lease: timedelta) -> Row | None:
    """Take over a payment that nobody is charging; None when somebody is."""
    return await _BEGIN_ATTEMPT.first(connection, row_id=payment_id, lease=lease)


async def end_attempt(connection: Connection, payment_id: UUID) -> None:
    """Nobody waits for Stripe's answer any more; the reconciler looks at it soon."""
    await _END_ATTEMPT.run(connection, row_id=payment_id)


async def withdraw(tx: Connection, payment_id: UUID) -> int:
    """Remove a payment that never left this service: nothing has happened."""
    return await _WITHDRAW.run(tx, row_id=payment_id)


async def lease_due(connection: Connection, most: int, lease: timedelta) -> list[Row]:
    """Payments that are to be looked at, now nobody else's for the time of the lease."""
    return await _LEASE_DUE.all(connection, most=most, lease=lease)


async def lease_open(connection: Connection, last: UUID, most: int, lease: timedelta) -> list[Row]:
    """The next open payments after the id `last`, due or not, and whoever looks at them."""
    return await _LEASE_OPEN.all(connection, last=last, most=most, lease=lease)


async def unsettled(connection: Connection) -> dict[str, int]:
    """How many payments nobody knows the end of yet, by the name of their status."""
    rows = await _UNSETTLED.all(connection)
    return {Payment.Status.Name(row["status"]): row["number"] for row in rows}


async def owed(connection: Connection) -> int:
    """Of how many payments something is still to be given back."""
    return int(await _OWED.value(connection))
