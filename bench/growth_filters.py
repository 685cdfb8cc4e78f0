"""What a list costs while its filter gets longer: by attributes, and by categories below one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import asyncpg

from bench.spread import Spread, opened, spread
from cli import catalogue, seed
from cli.database import Databases
from services.catalog import search, search_statistics
from services.catalog.tables import metadata
from services.kit.ids import uuid7
from shop.catalog.v1.catalog_pb2 import ListProductsRequest, Product

PAGE = 20
PRODUCTS = 10_000
# As many as a request may name.
ATTRIBUTES = (1, 2, 5, 10)
CATEGORIES = (1, 10, 100, 500)
PRODUCTS_OF_CATEGORY = 4

_CATEGORY = """
INSERT INTO catalog.categories (id, slug, name, description, parent_id) VALUES ($1, $2, $2, '', $3)
"""
# Some products each, which nobody else has asked for.
_FILL = """
UPDATE catalog.products SET category_ids = category_ids || $1::uuid WHERE id IN (
    SELECT id FROM catalog.products WHERE state = 2 ORDER BY id LIMIT $2 OFFSET $3)
"""
_ATTRIBUTES = """
UPDATE catalog.products SET attributes = attributes || $1 WHERE id IN (
    SELECT id FROM catalog.products WHERE state = 2 ORDER BY id LIMIT 200)
"""


async def measure(databases: Databases) -> dict[str, dict[int, Spread]]:
    """Times by kind of filter and its length, in a catalogue of `PRODUCTS`."""
    url = databases.services["catalog"]
    await seed.load(url, catalogue.made_up_items(PRODUCTS, seed="bench"))
    owner = await asyncpg.connect(databases.owner)
    facets = {f"facet{number}": "yes" for number in range(ATTRIBUTES[-1])}
    await owner.execute(_ATTRIBUTES, json.dumps(facets))
    top = uuid7()
    await owner.execute(_CATEGORY, top, "bench-top", None)
    figures: dict[str, dict[int, Spread]] = {}
    named = [f"{facet}=yes" for facet in facets]
    for count in ATTRIBUTES:
        request = ListProductsRequest(page_size=PAGE, attributes=named[:count])
        figures.setdefault("attributes", {})[count] = await _time(url, request)
    for before, count in itertools.pairwise((0, *CATEGORIES)):
        await _add_categories(owner, top, range(before, count))
        request = ListProductsRequest(page_size=PAGE, category_id=str(top))
        figures.setdefault("categories below", {})[count] = await _time(url, request)
    await owner.close()
    return figures


async def _add_categories(owner: Any, top: Any, numbers: Sequence[int]) -> None:
    for number in numbers:
        id = uuid7()
        await owner.execute(_CATEGORY, id, f"bench-{number}", top)
        await owner.execute(_FILL, id, PRODUCTS_OF_CATEGORY, number * PRODUCTS_OF_CATEGORY)
    await owner.execute("ANALYZE catalog.products, catalog.product_categories, catalog.categories")


async def _time(url: str, request: ListProductsRequest) -> Spread:
    async with opened(url, metadata) as database, database.connection() as connection:
        known = await search_statistics.read(connection)

        async def ask() -> None:
            products, _ = await search.page(connection, request, Product.ACTIVE, known)
            assert products

        return await spread(ask)
