"""Every statement on stock and its ledger; those on reservations are in `reservation_store`.

Rows of stock are locked in the order of their ids and moved by one statement, whatever their
number: no two calls wait for each other, and none holds a row for longer than it must.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import asyncpg
import sqlalchemy as sa
from grpc import StatusCode
from sqlalchemy.dialects.postgresql import insert

from services.catalog import stock_rules
from services.catalog.stock_rules import Move
from services.catalog.tables import products, stock, stock_movements, variants
from services.kit import errors, logs
from services.kit.db import Connection, Row, Statement, Transaction
from services.kit.ids import uuid7
from services.kit.statements import Fields, rows
from shop.catalog.v1 import catalog_pb2
from shop.errors.v1 import reason_pb2

log = logs.logger("stock")


@contextmanager
def checked() -> Iterator[None]:
    """Turn what the CHECKs on stock refuse into an error that clients know.

    The statements see to it that this never happens; when it does, the rows are not as they should
    be, and the log tells.
    """
    try:
        yield
    except (asyncpg.CheckViolationError, asyncpg.NumericValueOutOfRangeError) as error:
        log.exception("the database refused to move stock", constraint=error.constraint_name)
        raise errors.ServiceError(
            StatusCode.ABORTED,
            reason_pb2.REASON_TRANSACTION_CONFLICT,
            "The stock cannot be moved like this now: try again.",
        ) from None


# --- Building blocks ----------------------------------------------------------------------------


MOVES = rows(
    "move", id=sa.Uuid(), variant_id=sa.Uuid(), on_hand=sa.Integer(), reserved=sa.Integer()
)


def move_arguments(moves: Collection[Move]) -> dict[str, list[Any]]:
    """The parameters of a statement with `MOVES`; each has an id, for its line in the ledger."""
    return {
        "move_id": [uuid7() for _ in moves],
        "move_variant_id": [move.variant_id for move in moves],
        "move_on_hand": [move.on_hand for move in moves],
        "move_reserved": [move.reserved for move in moves],
    }


def lock(wanted: Any) -> sa.CTE:
    """The stock that `wanted` names, locked in order of ids, and the changes wanted of it."""
    return (
        sa.select(
            stock,
            wanted.c.on_hand.label("on_hand_change"),
            wanted.c.reserved.label("reserved_change"),
        )
        .join_from(wanted, stock, stock.c.variant_id == wanted.c.variant_id)
        .order_by(stock.c.variant_id)
        .with_for_update(of=stock)
        .cte("locked")
    )


def suffices(locked: sa.CTE) -> sa.ColumnElement[bool]:
    """Whether no less than nothing would be left to sell of locked stock."""
    left = (
        sa.cast(locked.c.on_hand, sa.BigInteger)
        + locked.c.on_hand_change
        - locked.c.reserved
        - locked.c.reserved_change
    )
    return left >= sa.case((locked.c.allow_backorder, -stock_rules.MOST), else_=0)


def move(locked: sa.CTE, *, only_if: Any = None) -> sa.CTE:
    """Move the locked stock, except where that would leave less than nothing to sell.

    All is reckoned from what the lock found. The UPDATE by itself sees the rows as they were when
    the statement began: it would refuse, or fail the CHECKs, where a call that was waited for has
    just given pieces free. `only_if` is a table: when it is empty, nothing is moved.
    """
    conditions = [stock.c.variant_id == locked.c.variant_id, suffices(locked)]
    if only_if is not None:
        conditions.append(sa.exists(sa.select(only_if)))
    return (
        sa.update(stock)
        .where(*conditions)
        .values(
            on_hand=locked.c.on_hand + locked.c.on_hand_change,
            reserved=locked.c.reserved + locked.c.reserved_change,
        )
        .returning(stock.c.variant_id, stock.c.on_hand, locked.c.on_hand_change)
        .cte("moved")
    )


def found(locked: sa.CTE, moved: sa.CTE) -> sa.Select[Any]:
    """What the lock found, and whether it was `moved`."""
    return sa.select(
        locked.c.variant_id,
        locked.c.on_hand,
        locked.c.reserved,
        moved.c.variant_id.is_not(None).label("moved"),
    ).select_from(locked.outerjoin(moved, moved.c.variant_id == locked.c.variant_id))


def write_ledger(moved: Any, ids: Any = MOVES) -> Any:
    """A movement for each change of what is on hand, with its id from `ids`."""
    said = ("reason", "note", "user_id", "order_id")
    return insert(stock_movements).from_select(
        ["id", "variant_id", "change", "on_hand", *said],
        sa.select(
            ids.c.id,
            moved.c.variant_id,
            moved.c.on_hand_change,
            moved.c.on_hand,
            *(sa.bindparam(name, type_=stock_movements.c[name].type) for name in said),
        )
        .join_from(moved, ids, ids.c.variant_id == moved.c.variant_id)
        .where(moved.c.on_hand_change != 0),
    )


# --- What is offered ----------------------------------------------------------------------------

_by_variant = rows("variant", id=sa.Uuid())
_by_product = rows("product", id=sa.Uuid())
_offered = sa.union(
    sa.select(_by_variant.c.id),
    sa.select(products.c.default_variant_id).join_from(
        _by_product, products, products.c.id == _by_product.c.id
    ),
).subquery("offered")
_OFFERS = Statement(
    sa.select(
        variants.c.id,
        variants.c.product_id,
        variants.c.sku,
        variants.c.options,
        variants.c.price,
        variants.c.currency,
        variants.c.weight_grams,
        products.c.default_variant_id,
        products.c.name.label("product_name"),
        products.c.slug.label("product_slug"),
        products.c.state.label("product_state"),
        products.c.media[0].label("media"),
        stock.c.on_hand,
        stock.c.reserved,
        stock.c.allow_backorder,
    )
    .join_from(_offered, variants, variants.c.id == _offered.c.id)
    .join(products, products.c.id == variants.c.product_id)
    .join(stock, stock.c.variant_id == variants.c.id)
)


async def offers(
    connection: Connection, variant_ids: Collection[UUID], product_ids: Collection[UUID]
) -> list[Row]:
    """Variants by id, and default variants by product, with their products and stock.

    Each is there once; ids that do not exist are left out.
    """
    return await _OFFERS.all(connection, variant_id=list(variant_ids), product_id=list(product_ids))


# --- Stock of one variant -----------------------------------------------------------------------

_new = rows("new", id=sa.Uuid(), variant_id=sa.Uuid(), on_hand=sa.Integer(), backorder=sa.Boolean())
_created = (
    insert(stock)
    .from_select(
        ["variant_id", "on_hand", "allow_backorder"],
        sa.select(_new.c.variant_id, _new.c.on_hand, _new.c.backorder),
    )
    .returning(stock.c.variant_id, stock.c.on_hand, stock.c.on_hand.label("on_hand_change"))
    .cte("created")
)
_CREATE = Statement(write_ledger(_created, _new))
_LOCK = Statement(
    sa.select(stock).where(stock.c.variant_id == sa.bindparam("variant_id")).with_for_update()
)
_ADJUST = Statement(write_ledger(move(lock(MOVES))).returning(stock_movements))
_MOVEMENTS = Statement(
    sa.select(stock_movements)
    .where(
        stock_movements.c.variant_id == sa.bindparam("variant_id"),
        stock_movements.c.sequence < sa.bindparam("before", type_=sa.BigInteger),
    )
    .order_by(stock_movements.c.sequence.desc())
    .limit(sa.bindparam("most", type_=sa.Integer))
)


async def create(tx: Connection, variants: Sequence[Fields], user_id: UUID) -> None:
    """The stock that new variants begin with: rows with `id`, `on_hand` and `allow_backorder`."""
    await _CREATE.run(
        tx,
        new_id=[uuid7() for _ in variants],
        new_variant_id=[variant["id"] for variant in variants],
        new_on_hand=[variant["on_hand"] for variant in variants],
        new_backorder=[variant["allow_backorder"] for variant in variants],
        reason=catalog_pb2.StockMovement.INITIAL,
        note="",
        user_id=user_id,
        order_id=None,
    )


async def lock_stock(tx: Connection, variant_id: UUID) -> Row:
    """The stock of a variant, locked until the end. Raises NOT_FOUND."""
    row = await _LOCK.first(tx, variant_id=variant_id)
    if row is None:
        raise errors.not_found("variant", variant_id)
    return row


async def adjust(
    tx: Transaction,
    variant_id: UUID,
    change: int,
    reason: catalog_pb2.StockMovement.Reason.ValueType,
    note: str,
    user_id: UUID,
) -> Row:
    """Change what is on hand of a locked variant, by other than 0; the line of the ledger."""
    tx.changed(variant_id)
    with checked():
        return await _ADJUST.one(
            tx,
            **move_arguments([Move(variant_id, change, 0)]),
            reason=reason,
            note=note,
            user_id=user_id,
            order_id=None,
        )


async def movements(connection: Connection, variant_id: UUID, before: int, most: int) -> list[Row]:
    """Up to `most` lines of a variant's ledger, newest first, of those whose sequence is below
    `before`.
    """
    return await _MOVEMENTS.all(connection, variant_id=variant_id, before=before, most=most)
