"""Loads orders by COPY, each with its history, its payment's settlement, its stock and its ledger.

They are in every status but PENDING, in which no order stays. What they hold or have taken came in
before: each batch writes it to the ledger as a RESTOCK, so that seeding sells nothing of what there
is. Of payments, the payment service knows nothing: an order names the id of one, and that is all.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from cli import seed_rows
from cli.made_up_orders import ORDER, Rows, Shop, histories, rows_of
from cli.programs import StartError
from cli.seed_people import REGION_CODE
from services.catalog import stock_messages
from services.catalog.tables import reservation_lines, reservations, stock_movements
from services.kit.statements import Fields
from services.order import rate_store, rules
from services.order.tables import order_events, order_lines, orders, settlements
from shop.catalog.v1.catalog_pb2 import StockMovement

# Orders of one transaction.
BATCH = 5_000
_NUMBER = ORDER.index("number")
_LINE = [
    "order_id",
    "line",
    "id",
    "variant_id",
    "product_id",
    "product_name",
    "sku",
    "options",
    "quantity",
    "unit_price",
]
_EVENT = [
    "order_id",
    "sequence",
    "from_status",
    "to_status",
    "actor",
    "user_id",
    "note",
    "create_time",
]
_SETTLEMENT = ("order_id", "payment_id", "outcome", "refunded", "create_time")
_RESERVATION = ("order_id", "state", "expire_time", "create_time")
_RESERVED = ("order_id", "line", "variant_id", "quantity", "snapshot")
_MOVEMENT = ("id", "variant_id", "change", "on_hand", "reason", "order_id")


async def load(
    urls: Mapping[str, str],
    count: int,
    seed: str,
    customers: Sequence[Fields],
    goods: Sequence[Fields],
    loaded: Callable[[int], None] = lambda _: None,
) -> None:
    """Add `count` orders of these customers; `urls` are those of the services. Raises StartError.

    `loaded` hears how many more there are now.
    """
    if not goods:
        raise StartError("There is nothing to order: load products too (--products).")
    if not customers:
        raise StartError("There is nobody to order: load users too (--users).")
    luck = random.Random(f"orders {seed}")  # noqa: S311 - these are no secrets
    stories = histories(luck)
    async with (
        seed_rows.connected(urls["order"]) as order,
        seed_rows.connected(urls["catalog"]) as catalog,
    ):
        shop = Shop(
            customers,
            goods,
            {one["id"]: stock_messages.snapshot(one).SerializeToString() for one in goods},
            await _rates(order, goods[0]["currency"]),
            await _staff(urls["users"]),
        )
        while batch := list(itertools.islice(stories, min(BATCH, count))):
            rows = await asyncio.to_thread(rows_of, luck, shop, batch)
            while not await _write(order, catalog, rows):
                rows = rows._replace(orders=[_renumbered(record) for record in rows.orders])
            loaded(len(batch))
            count -= len(batch)


async def _write(order: asyncpg.Connection, catalog: asyncpg.Connection, rows: Rows) -> bool:
    """Write a batch; not when one of its numbers is taken.

    Stock is committed before the orders: should this end in between, nothing lacks its stock.
    """
    try:
        async with order.transaction():
            await seed_rows.copy(order, orders, ORDER, rows.orders)
            await seed_rows.copy(order, order_lines, _LINE, rows.lines)
            await seed_rows.copy(order, order_events, _EVENT, rows.events)
            await seed_rows.copy(order, settlements, _SETTLEMENT, rows.settlements)
            async with catalog.transaction():
                await seed_rows.copy(catalog, reservations, _RESERVATION, rows.reservations)
                await seed_rows.copy(catalog, reservation_lines, _RESERVED, rows.reserved)
                await _move_stock(catalog, rows)
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "orders_number":
            raise
        return False
    return True


async def _move_stock(catalog: asyncpg.Connection, rows: Rows) -> None:
    """Take in what the orders need, hold what is held, sell what is sold."""
    needed = Counter(rows.held)
    for _, variant_id, pieces in rows.sales:
        needed[variant_id] += pieces
    # In the order of ids, as the catalogue locks it.
    on_hand: dict[UUID, int] = {
        row["variant_id"]: row["on_hand"]
        for row in await catalog.fetch(
            "SELECT variant_id, on_hand FROM catalog.stock WHERE variant_id = ANY($1)"
            " ORDER BY variant_id FOR UPDATE",
            list(needed),
        )
    }
    if missing := needed.keys() - on_hand.keys():
        raise StartError(f"The variant {min(missing)} has just been deleted: try again.")
    ledger: list[tuple[Any, ...]] = []

    def move(variant_id: UUID, change: int, reason: int, order_id: UUID | None) -> None:
        on_hand[variant_id] += change
        ledger.append((uuid7(), variant_id, change, on_hand[variant_id], reason, order_id))

    for variant_id, pieces in needed.items():
        move(variant_id, pieces, StockMovement.RESTOCK, None)
    for order_id, variant_id, pieces in rows.sales:
        move(variant_id, -pieces, StockMovement.SALE, order_id)
    await seed_rows.copy(catalog, stock_movements, _MOVEMENT, ledger)
    await catalog.execute(
        "UPDATE catalog.stock s SET on_hand = n.on_hand, reserved = s.reserved + n.held"
        " FROM unnest($1::uuid[], $2::int[], $3::int[]) AS n (variant_id, on_hand, held)"
        " WHERE s.variant_id = n.variant_id",
        list(on_hand),
        list(on_hand.values()),
        [rows.held[variant_id] for variant_id in on_hand],
    )


def _renumbered(record: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*record[:_NUMBER], rules.new_number(), *record[_NUMBER + 1 :])


async def _rates(order: asyncpg.Connection, currency: str) -> Fields:
    """The shop's own rates; shipped for nothing where it does not ship to."""
    rates = dict(await rate_store.rates(order, REGION_CODE, currency))
    return rates | {"price": rates["price"] or 0}


async def _staff(url: str) -> UUID | None:
    """Somebody of the shop."""
    async with seed_rows.connected(url) as users:
        found: UUID | None = await users.fetchval(
            "SELECT id FROM users.users WHERE role <> 'CUSTOMER' AND email IS NOT NULL LIMIT 1"
        )
        return found
