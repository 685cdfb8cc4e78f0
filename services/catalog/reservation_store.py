"""Every statement on reservations and their lines, but for those that make them (`hold_store`).

Locks are taken in one order: the reservation, then the stock of its variants by id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.catalog import stock_rules, stock_store
from services.catalog.stock_rules import Line, Move, Reservation
from services.catalog.tables import reservation_lines, reservations
from services.kit import errors
from services.kit.db import Connection, Row, Statement, Transaction
from shop.catalog.v1 import catalog_pb2, stock_pb2

# A batch of the sweeper: small, so that no call waits long for stock that it frees.
BATCH = 50

_order = reservations.c.order_id == sa.bindparam("order_id")
# Written out, not a parameter: only then does Postgres use the index of those that are active.
_active = sa.literal_column(str(int(stock_rules.ACTIVE)), sa.SmallInteger)
_over = sa.and_(reservations.c.state == _active, reservations.c.expire_time <= sa.func.now())
_with_lines = reservations.outerjoin(
    reservation_lines, reservation_lines.c.order_id == reservations.c.order_id
)
_LINES = (
    reservation_lines.c.line,
    reservation_lines.c.variant_id,
    reservation_lines.c.quantity,
    reservation_lines.c.snapshot,
)
_FIND = Statement(
    sa.select(
        reservations.c.order_id,
        sa.case((_over, stock_rules.EXPIRED), else_=reservations.c.state).label("state"),
        reservations.c.create_time,
        reservations.c.expire_time,
        *_LINES,
    )
    .select_from(_with_lines)
    .where(_order)
    .order_by(reservation_lines.c.line)
)
_LOCK = Statement(
    sa.select(reservations, *_LINES)
    .select_from(_with_lines)
    .where(_order)
    .order_by(reservation_lines.c.line)
    .with_for_update(of=reservations)
)
_REMEMBER_RELEASED = Statement(
    insert(reservations)
    .values(
        order_id=sa.bindparam("order_id"),
        state=stock_rules.RELEASED,
        expire_time=sa.func.now(),
    )
    .on_conflict_do_nothing()
    .returning(reservations)
)


def _settle() -> sa.Select[Any]:
    """Move the stock of a locked reservation, write the ledger, and set the new state."""
    locked = stock_store.lock(stock_store.MOVES)
    moved = stock_store.move(locked)
    settled = (
        sa.update(reservations).where(_order).values(state=sa.bindparam("new_state")).cte("settled")
    )
    ledger = stock_store.write_ledger(moved).cte("ledger")
    return stock_store.found(locked, moved).add_cte(ledger, settled)


def _expire() -> sa.Select[Any]:
    """End some reservations whose time is over, but none that a call or another sweeper has."""
    due = (
        sa.select(reservations.c.order_id)
        .where(_over)
        .order_by(reservations.c.expire_time)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    held = (
        sa.select(
            reservation_lines.c.variant_id,
            sa.literal_column("0", sa.Integer).label("on_hand"),
            sa.cast(-sa.func.sum(reservation_lines.c.quantity), sa.Integer).label("reserved"),
        )
        .join_from(reservation_lines, due, due.c.order_id == reservation_lines.c.order_id)
        .group_by(reservation_lines.c.variant_id)
        .cte("held")
    )
    moved = stock_store.move(stock_store.lock(held))
    ended = (
        sa.update(reservations)
        .where(reservations.c.order_id == due.c.order_id)
        .values(state=stock_rules.EXPIRED)
        .returning(reservations.c.order_id)
        .cte("ended")
    )
    return sa.select(
        sa.select(sa.func.count()).select_from(ended).scalar_subquery().label("reservations"),
        sa.func.array(sa.select(moved.c.variant_id).scalar_subquery()).label("variants"),
    )


_SETTLE = Statement(_settle())
_EXPIRE = Statement(_expire())


def _reservation(rows: Sequence[Row]) -> Reservation | None:
    """The reservation that rows, one for each line, tell of."""
    if not rows:
        return None
    first = rows[0]
    return Reservation(
        order_id=first["order_id"],
        state=first["state"],
        create_time=first["create_time"],
        expire_time=first["expire_time"],
        lines=tuple(
            Line(row["variant_id"], row["quantity"], row["snapshot"])
            for row in rows
            if row["line"] is not None
        ),
    )


async def find(connection: Connection, order_id: UUID) -> Reservation | None:
    """An order's reservation as clients see it: EXPIRED from the moment its time is over."""
    return _reservation(await _FIND.all(connection, order_id=order_id))


async def get(connection: Connection, order_id: UUID) -> Reservation:
    """The same. Raises NOT_FOUND."""
    reservation = await find(connection, order_id)
    if reservation is None:
        raise errors.not_found("reservation", order_id)
    return reservation


async def lock(tx: Connection, order_id: UUID) -> Reservation:
    """An order's reservation as it is stored, locked until the end. Raises NOT_FOUND."""
    reservation = _reservation(await _LOCK.all(tx, order_id=order_id))
    if reservation is None:
        raise errors.not_found("reservation", order_id)
    return reservation


async def settle(
    tx: Transaction,
    reservation: Reservation,
    state: stock_pb2.Reservation.State.ValueType,
    moves: Sequence[Move],
) -> tuple[Reservation, list[Row]]:
    """Move stock for a locked reservation and set its state; also what the stock was before.

    What goes is written to the ledger as SALE, what comes back as RETURN.
    """
    # What was reserved and goes leaves as much to be sold as there was.
    tx.changed(*(move.variant_id for move in moves if move.on_hand != move.reserved))
    returned = any(move.on_hand > 0 for move in moves)
    reason = catalog_pb2.StockMovement.RETURN if returned else catalog_pb2.StockMovement.SALE
    with stock_store.checked():
        found = await _SETTLE.all(
            tx,
            order_id=reservation.order_id,
            new_state=state,
            reason=reason,
            note="",
            user_id=None,
            **stock_store.move_arguments(moves),
        )
    return replace(reservation, state=state), found


async def remember_released(tx: Connection, order_id: UUID) -> Reservation | None:
    """Release an order that has no reservation; None when it has one."""
    row = await _REMEMBER_RELEASED.first(tx, order_id=order_id)
    if row is None:
        return None
    return Reservation(order_id, row["state"], row["create_time"], row["expire_time"], ())


async def expire(tx: Transaction) -> int:
    """Free the stock of up to `BATCH` reservations whose time is over; how many they were."""
    ended = await _EXPIRE.one(tx)
    tx.changed(*ended["variants"])
    return int(ended["reservations"])
