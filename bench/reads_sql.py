"""The statements of reads, as the catalogue's handlers make them, for pgbench."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from bench import pgbench, shop_loads
from bench.load import Measured
from bench.pages import PAGE
from bench.shop import Shop
from bench.shop_loads import Goods
from bench.subjects import Transactions
from services.catalog.handlers import CatalogService
from services.catalog.tables import metadata
from services.kit import call
from services.kit.db import Database
from shop.catalog.v1.catalog_pb2 import GetProductRequest, ListProductsRequest

# pgbench takes at most 128 scripts.
PRODUCTS = 50


async def subjects(shop: Shop, some: Goods) -> list[Transactions]:
    """GetProduct and ListProducts, without anything but their SQL."""
    gets = [GetProductRequest(id=id) for id, _ in some.any[:PRODUCTS]]
    page = [ListProductsRequest(page_size=PAGE, order_by="name")]
    return [
        await _subject(shop, "GetProduct", gets, "GetProduct, its SQL by pgbench"),
        await _subject(shop, "ListProducts", page, shop_loads.LIST_SQL),
    ]


async def _subject(shop: Shop, method: str, requests: Any, name: str) -> Transactions:
    url = shop.databases.services["catalog"]
    scripts = await _scripts(url, method, requests)

    async def run(seconds: float, at_once: int) -> Measured:
        return await pgbench.run(url, scripts, seconds, at_once)

    return Transactions(name, run)


async def _scripts(url: str, method: str, requests: list[Message]) -> list[str]:
    """For each request what the handler asks Postgres, with the arguments in their places."""
    heard: list[tuple[str, tuple[Any, ...]]] = []
    database = await Database.open(
        url,
        metadata,
        name="bench",
        connections=1,
        on_query=lambda record: heard.append((record.query, record.args)),
    )
    scripts = []
    for number, request in enumerate((requests[0], *requests)):
        service = CatalogService(database)  # a new one each, which remembers nothing
        call.begin(call.Call(method, "bench"))
        heard.clear()
        await getattr(service, method)(request, None)
        if number:  # the first call also asks Postgres about types
            scripts.append("".join(_with(query, arguments) + ";\n" for query, arguments in heard))
    await database.close()
    return scripts


def _with(query: str, arguments: tuple[Any, ...]) -> str:
    for number in range(len(arguments), 0, -1):
        query = query.replace(f"${number}", _literal(arguments[number - 1]))
    return query


def _literal(value: Any) -> str:
    """As text without a type, which Postgres finds out as it does that of a parameter."""
    if value is None:
        return "NULL"
    if isinstance(value, (list, tuple)):
        return "'{" + ",".join(f'"{one}"' for one in value) + "}'"
    return "'" + str(value).replace("'", "''") + "'"
