"""The statements that hold stock for orders: of one, or of several that wait together.

Locks are taken in one order: the stock by the ids of its variants, then the order's id is claimed.
Who has a reservation to change locks that first, and does not claim it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.catalog import stock_rules, stock_store
from services.catalog.stock_rules import Line, Move, Reservation
from services.catalog.tables import reservation_lines, reservations, stock
from services.kit.db import Connection, Row, Statement
from services.kit.statements import rows

_active = sa.literal_column(str(int(stock_rules.ACTIVE)), sa.SmallInteger)
_LINE_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "line": sa.SmallInteger(),
    "variant_id": sa.Uuid(),
    "quantity": sa.Integer(),
    "snapshot": sa.LargeBinary(),
}


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


_HOLD = Statement(_hold())
_HOLD_ALL = Statement(_hold_all())


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
