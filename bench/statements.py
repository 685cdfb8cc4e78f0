"""How many SQL statements a call takes."""

from __future__ import annotations

from typing import Any

from services.catalog.handlers import CatalogService
from services.catalog.tables import metadata
from services.kit import call
from services.kit.db import Database
from shop.catalog.v1.catalog_pb2 import GetProductRequest, ListProductsRequest


async def per_call(database_url: str, product_id: str) -> dict[str, float]:
    """Statements by method, counted at the handlers."""
    seen: list[str] = []
    database = await Database.open(
        database_url,
        metadata,
        name="bench",
        connections=1,
        on_query=lambda record: seen.append(record.query),
    )
    service = CatalogService(database)
    requests: dict[str, Any] = {
        "GetProduct": GetProductRequest(id=product_id),
        "ListProducts": ListProductsRequest(page_size=20, order_by="name"),
    }
    counts: dict[str, float] = {}
    for name, request in requests.items():
        call.begin(call.Call(name, "bench"))
        # The first call also asks Postgres about types, once per connection.
        await getattr(service, name)(request, None)
        seen.clear()
        await getattr(service, name)(request, None)
        counts[name] = len(seen)
    await database.close()
    return counts
