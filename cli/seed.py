"""Loads products into the catalogue by COPY: thousands a second, past the service."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from cli.catalogue import CURRENCY, Item, categories
from cli.programs import StartError
from services.catalog import rules
from services.catalog.tables import (
    categories as categories_table,
    product_categories,
    products,
    spellings,
    stock,
    stock_movements,
    variants,
    vocabulary,
)
from shop.catalog.v1.catalog_pb2 import Product, StockMovement

# Products of one transaction.
BATCH = 20_000
_SESSION = {
    "application_name": "shop seed",
    "synchronous_commit": "off",
    # A service's role has the limits of calls.
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # What the inverted indexes put aside until there is much of it.
    "gin_pending_list_limit": "64MB",
    "work_mem": "64MB",
}

_COLUMNS = {
    products: (
        "id",
        "slug",
        "name",
        "description",
        "state",
        "category_ids",
        "attributes",
        "media",
        "default_variant_id",
        "price",
        "currency",
        "skus",
    ),
    variants: (
        "id",
        "product_id",
        "sku",
        "options",
        "price",
        "currency",
        "compare_at_price",
        "weight_grams",
    ),
    stock: ("variant_id", "on_hand"),
    stock_movements: ("id", "variant_id", "change", "on_hand", "reason"),
}


class Rows(NamedTuple):
    """Records of the four tables, in the order of `_COLUMNS`."""

    products: list[tuple[Any, ...]]
    variants: list[tuple[Any, ...]]
    stock: list[tuple[Any, ...]]
    movements: list[tuple[Any, ...]]


async def load(
    url: str, items: Iterable[Item], loaded: Callable[[int], None] = lambda _: None
) -> None:
    """Add the items as products; `loaded` hears how many more there are now. Raises StartError."""
    connection = await asyncpg.connect(url, server_settings=_SESSION)
    try:
        ids = await _ensure_categories(connection)
        remaining = iter(items)
        # The next batch is made while Postgres takes this one.
        following = asyncio.create_task(asyncio.to_thread(_next, remaining, ids))
        while (rows := await following).products:
            following = asyncio.create_task(asyncio.to_thread(_next, remaining, ids))
            async with connection.transaction():
                for (table, columns), records in zip(_COLUMNS.items(), rows, strict=True):
                    await connection.copy_records_to_table(
                        table.name, schema_name=table.schema, columns=columns, records=records
                    )
            loaded(len(rows.products))
    except asyncpg.UniqueViolationError:
        raise StartError("These products are there already: take another seed.") from None
    finally:
        await connection.close()


async def refresh_statistics(owner_url: str) -> None:
    """Let Postgres look at what was loaded: it plans by what it knows about the tables."""
    connection = await asyncpg.connect(owner_url)
    try:
        for table in (*_COLUMNS, categories_table, product_categories, spellings, vocabulary):
            await connection.execute(f"VACUUM (ANALYZE) {table.fullname}")
    finally:
        await connection.close()


async def _ensure_categories(connection: asyncpg.Connection) -> dict[str, UUID]:
    """The id of each category by its name."""
    ids: dict[str, UUID] = {}
    for name, parent in categories():
        slug = rules.slug_of(name)
        await connection.execute(
            "INSERT INTO catalog.categories (id, slug, name, description, parent_id)"
            " VALUES ($1, $2, $3, '', $4) ON CONFLICT (slug) DO NOTHING",
            uuid7(),
            slug,
            name,
            ids.get(parent),
        )
        ids[name] = await connection.fetchval(
            "SELECT id FROM catalog.categories WHERE slug = $1", slug
        )
    return ids


def _next(items: Iterator[Item], categories: Mapping[str, UUID]) -> Rows:
    """Records of the next batch of items; empty behind the last one."""
    batch = itertools.islice(items, BATCH)
    rows = Rows([], [], [], [])
    for item in batch:
        product_id = item.id or uuid7()
        chosen = [(choice.id or uuid7(), choice) for choice in item.choices]
        rows.products.append(
            (
                product_id,
                item.slug,
                item.name,
                item.description,
                Product.ACTIVE,
                [categories[item.category]],
                json.dumps(item.attributes),
                json.dumps(
                    [{"url": f"https://images.example.com/{item.slug}.jpg", "alt": item.name}]
                ),
                chosen[0][0],
                item.price,
                CURRENCY,
                " ".join(choice.sku for choice in item.choices),
            )
        )
        for variant_id, choice in chosen:
            rows.variants.append(
                (
                    variant_id,
                    product_id,
                    choice.sku,
                    json.dumps(choice.options),
                    item.price,
                    CURRENCY,
                    item.compare_at_price,
                    0,
                )
            )
            rows.stock.append((variant_id, choice.on_hand))
            if choice.on_hand:
                rows.movements.append(
                    (uuid7(), variant_id, choice.on_hand, choice.on_hand, StockMovement.INITIAL)
                )
    return rows
