"""Inside a running shop: its processes, its database, and a call that each service answers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import asyncpg

from cli.topology import SERVICES
from tests.faults.traffic import PATIENCE_SECONDS, Ask
from tests.shop import Process
from tests.visitors import Shop


def asks(shop: Shop) -> dict[str, Ask]:
    """A call that each service answers; the catalogue's is made by somebody who is signed in."""
    return {
        "users": lambda: shop.staff.get("/api/users/me/"),
        "catalog": lambda: shop.staff.get("/api/products/", page_size=1),
    }


def part(shop: Shop, what: str) -> Process:
    """The running process of a part of the shop."""
    found = shop.up.find(what)
    assert found is not None
    return found


def others(shop: Shop, what: str) -> dict[str, Process]:
    """The running processes of all parts of the shop but this one."""
    parts = (*(f"services.{name}" for name in SERVICES), "/postgres ", "/envoy ")
    return {each: part(shop, each) for each in parts if each != what}


async def accepts(shop: Shop) -> bool:
    """Whether Postgres takes connections."""
    try:
        async with connected(shop, seconds=2):
            return True
    except (OSError, asyncpg.PostgresError):
        return False


@contextlib.asynccontextmanager
async def connected(
    shop: Shop, *, seconds: float = PATIENCE_SECONDS
) -> AsyncIterator[asyncpg.Connection]:
    """A new connection of the owner's; older ones have ended with Postgres."""
    connection = await asyncpg.connect(shop.ready.database_url, timeout=seconds)
    try:
        yield connection
    finally:
        await connection.close()


async def skus(database: asyncpg.Connection) -> set[str]:
    """The SKUs that `Additions` has made."""
    rows = await database.fetch("SELECT sku FROM catalog.variants WHERE sku LIKE 'KEY-%'")
    assert len(rows) == len({row["sku"] for row in rows})
    return {row["sku"] for row in rows}


async def audit(database: asyncpg.Connection) -> list[asyncpg.Record]:
    """Stock that its ledger does not account for."""
    return await database.fetch(
        "SELECT variant_id FROM catalog.stock LEFT JOIN ("
        "  SELECT variant_id, sum(change) AS change FROM catalog.stock_movements"
        "  GROUP BY variant_id"
        ") AS ledger USING (variant_id)"
        " WHERE on_hand <> coalesce(change, 0)"
    )
