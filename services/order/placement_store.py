"""The statement that places orders which their calls have just made, as many as wait together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from services.kit import statements
from services.kit.db import Connection, Row, Statement
from services.order import store
from services.order.rules import AWAITING_PAYMENT, PENDING
from services.order.tables import orders
from shop.order.v1.order_pb2 import OrderEvent

# What placing changes.
_PRICED = (
    "currency",
    "subtotal",
    "shipping_total",
    "tax_total",
    "tax_included",
    "total",
    "expire_time",
)


def _place_unchanged() -> sa.Select[Any]:
    """Place orders that are as they were made, with their lines and an event each.

    Nobody is woken: hardly anybody can know them yet, and would hear of it with the next heartbeat.
    """
    priced = statements.rows(
        "priced",
        id=sa.Uuid(),
        version=sa.Integer(),
        **{name: orders.c[name].type for name in _PRICED},
    )
    written = (
        sa.update(orders)
        .where(orders.c.id == priced.c.id, orders.c.version == priced.c.version, ~store.IS_ERASED)
        .values(
            {name: priced.c[name] for name in _PRICED}
            | {
                "status": sa.literal_column(str(int(AWAITING_PAYMENT))),
                "demand": None,
                "last_sequence": orders.c.last_sequence + 1,
                "version": orders.c.version + 1,
                "update_time": sa.func.clock_timestamp(),
            }
        )
        .returning(orders.c.id, orders.c.last_sequence, orders.c.version, orders.c.update_time)
        .cte("written")
    )
    event = store.event_of(
        written,
        sa.literal_column(str(int(PENDING))),
        sa.literal_column(str(int(AWAITING_PAYMENT))),
        sa.literal_column(str(int(OrderEvent.SYSTEM))),
        sa.null(),
        sa.literal_column("''"),
    )
    return sa.select(written).add_cte(event.cte("event"), store.insert_lines_of(written))


_PLACE_UNCHANGED = Statement(_place_unchanged())


class Priced(NamedTuple):
    """An order that was just made, what placing it changes, and its lines, in their order."""

    row: Row
    changes: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]


async def place_unchanged(
    connection: Connection, orders: Sequence[Priced]
) -> list[dict[str, Any] | None]:
    """Place orders that `insert_orders` has made and nobody has locked.

    None, and nothing is written, for one that is no longer as it was then, or whose user was
    erased.
    """
    arrays = {
        f"priced_{name}": [order.changes[name] for order in orders] for name in _PRICED
    } | store.line_arguments([(order.row["id"], order.lines) for order in orders])
    rows = await _PLACE_UNCHANGED.all(
        connection,
        priced_id=[order.row["id"] for order in orders],
        priced_version=[order.row["version"] for order in orders],
        **arrays,
    )
    after = {row["id"]: row for row in rows}
    return [
        _placed(order, after[order.row["id"]]) if order.row["id"] in after else None
        for order in orders
    ]


def _placed(order: Priced, after: Row) -> dict[str, Any]:
    shown = [{name: _shown(value) for name, value in line.items()} for line in order.lines]
    return {**order.row, **order.changes, **after, "demand": None, "lines": shown}


def _shown(value: Any) -> Any:
    """A part of a line as `with_lines` has it."""
    return str(value) if isinstance(value, UUID) else value
