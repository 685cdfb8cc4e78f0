"""Every statement on reservations and their lines.

Locks are taken in one order: the reservation, then the stock of its variants by id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.catalog import stock_rules, stock_store
from services.catalog.stock_rules import Line, Move, Reservation
from services.catalog.tables import reservation_lines, reservations, stock
from services.kit import errors
from services.kit.db import Connection, Row, Statement, Transaction
from services.kit.statements import rows
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
_LINE_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "line": sa.SmallInteger(),
    "variant_id": sa.Uuid(),
    "quantity": sa.Integer(),
    "snapshot": sa.LargeBinary(),
}
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


def _hold() -> sa.Select[Any]:
    """Lock the stock, and if there is enough of everything, claim the order's id, and hold it.

    It is one transaction by itself: all is written, or nothing. The rows tell of each variant
    whether there was enough, and of the reservation that was made: when there was enough and none
    was made, the order has one, of another call whose end was waited for.
    """
    locked = stock_store.lock(stock_store.MOVES)
    enough = (
        sa.select(sa.func.count())
        .select_from(locked)
        .where(stock_store.suffices(locked))
        .scalar_subquery()
    )
    wanted = sa.select(sa.func.count()).select_from(stock_store.MOVES).scalar_subquery()
    claimed = (
        insert(reservations)
        .from_select(
            ["order_id", "state", "expire_time"],
            sa.select(
                sa.bindparam("order_id", type_=sa.Uuid),
                _active,
                sa.func.now() + sa.bindparam("ttl", type_=sa.Interval),
            ).where(enough == wanted),
        )
        .on_conflict_do_nothing()
        .returning(reservations)
        .cte("claimed")
    )
    moved = stock_store.move(locked, only_if=claimed)
    lines = rows("line", **_LINE_TYPES)
    written = insert(reservation_lines).from_select(
        ["order_id", *_LINE_TYPES],
        sa.select(claimed.c.order_id, *(lines.c[name] for name in _LINE_TYPES)).join_from(
            claimed, lines, sa.true()
        ),
    )
    return (
        sa.select(
            claimed.c.create_time,
            claimed.c.expire_time,
            locked.c.variant_id,
            locked.c.on_hand,
            locked.c.reserved,
            stock_store.suffices(locked).label("moved"),
        )
        .select_from(locked.outerjoin(claimed, sa.true()))
        .add_cte(moved, written.cte("written"))
    )


def _hold_all() -> sa.Select[Any]:
    """The same for several orders, if there is enough for all; the rows are those that were made.

    Locks are taken, and pieces counted, once for all of them. What an order wants that has a
    reservation already is locked and left as it is.
    """
    wanted = rows("wanted", order_id=sa.Uuid(), ttl=sa.Interval())
    pieces = rows("pieces", order_id=sa.Uuid(), variant_id=sa.Uuid(), quantity=sa.Integer())

    def moves(of: Any) -> Any:
        return sa.select(
            pieces.c.variant_id,
            sa.literal_column("0", sa.Integer).label("on_hand"),
            sa.cast(sa.func.sum(pieces.c.quantity), sa.Integer).label("reserved"),
        ).select_from(of)

    demand = moves(pieces).group_by(pieces.c.variant_id).cte("demand")
    locked = stock_store.lock(demand)
    enough = (
        sa.select(sa.func.count())
        .select_from(locked)
        .where(stock_store.suffices(locked))
        .scalar_subquery()
    )
    demanded = sa.select(sa.func.count()).select_from(demand).scalar_subquery()
    claimed = (
        insert(reservations)
        .from_select(
            ["order_id", "state", "expire_time"],
            sa.select(wanted.c.order_id, _active, sa.func.now() + wanted.c.ttl).where(
                enough == demanded
            ),
        )
        .on_conflict_do_nothing()
        .returning(reservations)
        .cte("claimed")
    )
    taken = (
        moves(pieces.join(claimed, claimed.c.order_id == pieces.c.order_id))
        .group_by(pieces.c.variant_id)
        .cte("taken")
    )
    moved = (
        sa.update(stock)
        .where(stock.c.variant_id == locked.c.variant_id, taken.c.variant_id == stock.c.variant_id)
        .values(reserved=locked.c.reserved + taken.c.reserved)
        .returning(stock.c.variant_id)
        .cte("moved")
    )
    lines = rows("line", order_id=sa.Uuid(), **_LINE_TYPES)
    names = ["order_id", *_LINE_TYPES]
    written = insert(reservation_lines).from_select(
        names,
        sa.select(*(lines.c[name] for name in names)).join_from(
            lines, claimed, claimed.c.order_id == lines.c.order_id
        ),
    )
    return sa.select(claimed).add_cte(moved, written.cte("written"))


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


_HOLD = Statement(_hold())
_HOLD_ALL = Statement(_hold_all())
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


class Wish(NamedTuple):
    """The lines that an order wants held, and how many pieces of each variant that is."""

    order_id: UUID
    lines: Sequence[Line]
    pieces: Mapping[UUID, int]
    ttl: timedelta


async def hold(connection: Connection, wish: Wish) -> tuple[Reservation | None, list[Row]]:
    """Reserve stock for an order, and what it was before: see `stock_rules.check_held`.

    The reservation is None when there was not enough, and when the order has one already.
    """
    moves = [Move(id, 0, pieces) for id, pieces in wish.pieces.items()]
    with stock_store.checked():
        found = await _HOLD.all(
            connection,
            order_id=wish.order_id,
            ttl=wish.ttl,
            **_line_arguments([wish]),
            **stock_store.move_arguments(moves),
        )
    if not found or found[0]["create_time"] is None:
        return None, found
    return _made(wish, found[0]), found


async def hold_all(connection: Connection, wishes: Sequence[Wish]) -> list[Reservation | None]:
    """Reserve stock for several orders if there is enough for all of them.

    None for an order that has a reservation already, and for all when there is not enough.
    """
    pieces = [(wish.order_id, *each) for wish in wishes for each in wish.pieces.items()]
    with stock_store.checked():
        found = await _HOLD_ALL.all(
            connection,
            wanted_order_id=[wish.order_id for wish in wishes],
            wanted_ttl=[wish.ttl for wish in wishes],
            pieces_order_id=[each[0] for each in pieces],
            pieces_variant_id=[each[1] for each in pieces],
            pieces_quantity=[each[2] for each in pieces],
            line_order_id=[wish.order_id for wish in wishes for _ in wish.lines],
            **_line_arguments(wishes),
        )
    made = {row["order_id"]: row for row in found}
    return [_made(wish, made[wish.order_id]) if wish.order_id in made else None for wish in wishes]


def _made(wish: Wish, row: Row) -> Reservation:
    times = row["create_time"], row["expire_time"]
    return Reservation(wish.order_id, stock_rules.ACTIVE, *times, tuple(wish.lines))


def _line_arguments(wishes: Sequence[Wish]) -> dict[str, list[Any]]:
    lines = [line for wish in wishes for line in wish.lines]
    return {
        "line_line": [number for wish in wishes for number in range(len(wish.lines))],
        "line_variant_id": [line.variant_id for line in lines],
        "line_quantity": [line.quantity for line in lines],
        "line_snapshot": [line.snapshot for line in lines],
    }


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
