"""What a page of products costs while the catalogue grows: lists, filters and searches.

The statements are run as the service runs them, without gRPC, on a Postgres of its own.
Each figure is of many pages of 20.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import asyncpg
from rich.console import Console

from bench.spread import Spread, opened, spreads
from cli import catalogue, seed
from cli.database import Databases
from services.catalog import search, search_meetings, search_statistics
from services.catalog.tables import metadata
from services.kit.db import Database
from shop.catalog.v1.catalog_pb2 import ListProductsRequest, Product

PAGE = 20
DEEP = 1_000
# Of these, page 1 and that page take turns.
DEEPENED = ("newest", "by price", "by name", "category")

Requests = Mapping[str, ListProductsRequest]


async def requests(connection: Any) -> Requests:
    """What to list, by a name for the table; rare things are looked up."""
    leaf, top = await connection.fetchrow(
        "SELECT id, parent_id FROM catalog.categories WHERE parent_id IS NOT NULL"
        " ORDER BY name LIMIT 1"
    )
    rare_maker, maker = await connection.fetchrow(
        "SELECT min(maker), max(maker) FROM (SELECT attributes ->> 'maker' AS maker"
        " FROM catalog.products WHERE state = 2 LIMIT 1000) AS found"
    )
    collection = await connection.fetchval(
        "SELECT substring(description from 'from the (\\w+) collection') FROM catalog.products"
        " WHERE description ~ 'from the' ORDER BY id LIMIT 1"
    )
    typo = collection[:3] + collection[4:]
    dearest = await connection.fetchval("SELECT max(price) FROM catalog.products")

    def wanted(**fields: Any) -> ListProductsRequest:
        return ListProductsRequest(page_size=PAGE, **fields)

    return {
        "newest": wanted(),
        "by price": wanted(order_by="price"),
        "by name": wanted(order_by="name"),
        "in stock": wanted(in_stock=True),
        "category": wanted(category_id=str(leaf)),
        "category with those below": wanted(category_id=str(top)),
        "category, by price": wanted(category_id=str(leaf), order_by="price"),
        "category, in stock, dearest first": wanted(
            category_id=str(leaf), in_stock=True, order_by="-price"
        ),
        "common attribute, by price": wanted(attributes=["colour=navy"], order_by="price"),
        "rare attribute": wanted(attributes=[f"maker={rare_maker}"]),
        "two attributes, in stock": wanted(
            attributes=[f"maker={maker}", "colour=navy"], in_stock=True
        ),
        "price range, by name": wanted(min_price=2000, max_price=3000, order_by="name"),
        "dearest few": wanted(min_price=dearest - 200),
        "a currency nobody uses": wanted(currency_code="JPY"),
        "q, in all products": wanted(q="collection"),
        "q, in many names": wanted(q="classic"),
        "q, in many descriptions": wanted(q="made"),
        "q, two words": wanted(q="vintage copper"),
        "q, three words": wanted(q="steel knife made in navy"),
        "q, rare": wanted(q=collection),
        "q, rare and common": wanted(q=f"navy {collection}"),
        "q, one letter": wanted(q="s"),
        "q, two letters": wanted(q="qu"),
        "q, typing error": wanted(q=typo),
        "q, nothing": wanted(q="xyzzyplugh"),
        "q, common, by price": wanted(q="steel", order_by="price"),
        "q, common, by name": wanted(q="vintage", order_by="name"),
        "q, two words never together": wanted(q="leather steel"),
        "q, category, in stock": wanted(q="steel", category_id=str(leaf), in_stock=True),
        "q, one letter, rare attribute": wanted(q="s", attributes=[f"maker={rare_maker}"]),
    }


async def milliseconds(database: Database, *requests: ListProductsRequest) -> list[Spread]:
    """The times of a page of each, in turns, on one connection."""
    known = await _known(database)
    async with database.connection() as connection:

        def asking(request: ListProductsRequest) -> Callable[[], Awaitable[None]]:
            async def ask() -> None:
                await search.page(connection, request, Product.ACTIVE, known)

            return ask

        return await spreads([asking(request) for request in requests])


async def at_depth(database: Database, request: ListProductsRequest, page: int) -> Any:
    """The request for the page of this number, or None where there are not so many."""
    deeper = ListProductsRequest()
    deeper.CopyFrom(request)
    known = await _known(database)
    async with database.connection() as connection:
        for _ in range(page - 1):
            _, deeper.page_token = await search.page(connection, deeper, Product.ACTIVE, known)
            if not deeper.page_token:
                return None
    return deeper


async def _known(database: Database) -> search_statistics.Known:
    async with database.connection() as connection:
        return await search_statistics.read(connection)


async def measure(
    databases: Databases, sizes: Sequence[int], console: Console
) -> dict[str, dict[int, Spread]]:
    """Times by list and size, while products are added."""
    assert databases.owner is not None
    figures: dict[str, dict[int, Spread]] = {}
    items = catalogue.made_up_items(sizes[-1], seed="bench")
    for before, size in itertools.pairwise([0, *sizes]):
        began = time.perf_counter()
        some = itertools.islice(items, size - before)
        await seed.load(databases.services["catalog"], some)
        await seed.refresh_statistics(databases.owner)
        async with opened(databases.services["catalog"], metadata) as database:
            await search_meetings.learn(database, await _known(database), rest=0)
        console.print(f"{size:>9,} products: loaded in {time.perf_counter() - began:.0f} s")
        await _add_figures(databases, size, figures)
    return figures


async def _add_figures(
    databases: Databases, size: int, figures: dict[str, dict[int, Spread]]
) -> None:
    owner = await asyncpg.connect(databases.owner)
    lists = await requests(owner)
    await owner.close()
    url = databases.services["catalog"]
    async with opened(url, metadata) as database:
        for name, request in lists.items():
            (figures.setdefault(name, {})[size],) = await milliseconds(database, request)
        for name in DEEPENED if size > DEEP * PAGE else ():
            deep = await at_depth(database, lists[name], DEEP)
            if deep is not None:
                both = await milliseconds(database, lists[name], deep)
                for page, one in zip(("1", f"{DEEP:,}"), both, strict=True):
                    figures.setdefault(f"{name}, page {page}", {})[size] = one
