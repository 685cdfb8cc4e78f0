"""What a page of products costs while the catalogue grows: lists, filters and searches.

The statements are run as the service runs them, without gRPC, on a Postgres of its own.
Each figure is the median in milliseconds of `ROUNDS` pages of 20, after enough of them for Postgres
to have settled on a plan.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from cli import catalogue, migrate, seed
from cli.database import Databases, databases_of, ensure_database
from cli.postgres import Cluster, serve
from cli.topology import free_port
from services.catalog import search
from services.catalog.tables import metadata
from services.kit.db import Database
from shop.catalog.v1.catalog_pb2 import ListProductsRequest, Product

SIZES = (1_000, 10_000, 100_000, 1_000_000)
PAGE = 20
ROUNDS = 15
# Postgres plans the first five executions anew, and decides then.
SETTLING = 8
DEEP = 1_000

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
        "q, category, in stock": wanted(q="steel", category_id=str(leaf), in_stock=True),
        "q, one letter, rare attribute": wanted(q="s", attributes=[f"maker={rare_maker}"]),
    }


async def milliseconds(database: Database, request: ListProductsRequest) -> float:
    """The median time of a page, on one connection."""
    times = []
    async with database.connection() as connection:
        for number in range(SETTLING + ROUNDS):
            began = time.perf_counter()
            await search.page(connection, request, Product.ACTIVE)
            if number >= SETTLING:
                times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


async def at_depth(database: Database, request: ListProductsRequest, page: int) -> Any:
    """The request for the page of this number, or None where there are not so many."""
    deeper = ListProductsRequest()
    deeper.CopyFrom(request)
    async with database.connection() as connection:
        for _ in range(page - 1):
            _, deeper.page_token = await search.page(connection, deeper, Product.ACTIVE)
            if not deeper.page_token:
                return None
    return deeper


@contextmanager
def postgres() -> Iterator[Databases]:
    """A Postgres as `shop up` starts it, in a folder that is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="shop-bench-") as name:
        folder = Path(name)
        cluster = Cluster(folder / "postgres", folder / "password", free_port())
        cluster.create()
        with serve(cluster, folder / "log"):
            yield databases_of(cluster.url("shop"))


@asynccontextmanager
async def opened(databases: Databases) -> AsyncIterator[Database]:
    """The catalogue's connections."""
    database = await Database.open(
        databases.services["catalog"], metadata, name="bench", connections=1
    )
    yield database
    await database.close()


async def measure(databases: Databases, sizes: list[int], console: Console) -> dict[str, Any]:
    """Milliseconds by list and size, while products are added."""
    assert databases.owner is not None
    await ensure_database(databases.owner.rpartition("/")[0] + "/postgres", "shop")
    await migrate.migrate(databases, ["catalog"])
    figures: dict[str, Any] = {}
    items = catalogue.made_up_items(sizes[-1], seed="bench")
    for before, size in itertools.pairwise([0, *sizes]):
        began = time.perf_counter()
        some = itertools.islice(items, size - before)
        await seed.load(databases.services["catalog"], some)
        await seed.refresh_statistics(databases.owner)
        console.print(f"{size:>9,} products: loaded in {time.perf_counter() - began:.0f} s")
        await add_figures(databases, size, figures)
    return figures


async def add_figures(databases: Databases, size: int, figures: dict[str, Any]) -> None:
    """Measure every list at the size that the catalogue has."""
    owner = await asyncpg.connect(databases.owner)
    lists = await requests(owner)
    await owner.close()
    async with opened(databases) as database:
        for name, request in lists.items():
            figures.setdefault(name, {})[size] = await milliseconds(database, request)
        for name in ("newest", "by price", "by name", "category", "q, in many descriptions"):
            deep = await at_depth(database, lists[name], DEEP)
            if deep is not None:
                row = figures.setdefault(f"{name}, page {DEEP:,}", {})
                row[size] = await milliseconds(database, deep)


def table(figures: dict[str, Any], sizes: list[int]) -> Table:
    """The figures as people read them."""
    shown = Table(title=f"milliseconds per page of {PAGE}, median")
    shown.add_column("list")
    for size in sizes:
        shown.add_column(f"{size:,}", justify="right")
    for name, row in figures.items():
        shown.add_row(name, *(f"{row[size]:.1f}" if size in row else "-" for size in sizes))
    return shown


def run(most: int, console: Console) -> dict[str, Any]:
    """Measure up to `most` products, print the table, give the figures."""
    sizes = [size for size in SIZES if size < most] + [most]
    with postgres() as databases:
        figures = asyncio.run(measure(databases, sizes, console))
    console.print(table(figures, sizes))
    return {"milliseconds": figures, "page_size": PAGE}
