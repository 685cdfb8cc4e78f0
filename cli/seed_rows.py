"""What loading people and orders have in common: connections, COPY, and what is there already."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import sqlalchemy as sa

from cli import database
from services.catalog import stock_store
from services.kit import sessions
from services.kit.statements import Fields
from shop.catalog.v1.catalog_pb2 import Product

# Of what is there already, so much takes part: the newest.
MOST = 10_000


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection whose JSON is Python objects. Raises StartError."""
    connection = await database.connect(
        url,
        application_name="shop seed",
        synchronous_commit="off",
        work_mem="64MB",
        # A service's role has the limits of calls.
        statement_timeout="0",
        idle_in_transaction_session_timeout="0",
    )
    try:
        await sessions.prepare(connection)  # JSON in binary, which is what COPY takes
        yield connection
    finally:
        await connection.close()


async def copy(
    connection: asyncpg.Connection,
    table: sa.Table,
    columns: Sequence[str],
    records: Iterable[tuple[Any, ...]],
) -> None:
    """Add records, of these columns, to a table."""
    await connection.copy_records_to_table(
        table.name, schema_name=table.schema, columns=columns, records=records
    )


async def customers(url: str, most: int) -> Sequence[Fields]:
    """Customers who may order, with `id`, `email` and `full_name`, newest first."""
    async with connected(url) as connection:
        found: Sequence[Fields] = await connection.fetch(
            "SELECT id, email, full_name FROM users.users"
            " WHERE role = 'CUSTOMER' AND email IS NOT NULL AND NOT disabled"
            " ORDER BY id DESC LIMIT $1",
            most,
        )
        return found


async def goods(url: str) -> Sequence[Fields]:
    """What can be ordered, as rows of `stock_store.offers`, all in one currency."""
    async with connected(url) as connection:
        products = await connection.fetch(
            "SELECT id FROM catalog.products WHERE state = $1 AND price > 1 AND currency = ("
            " SELECT currency FROM catalog.products WHERE state = $1 ORDER BY id DESC LIMIT 1"
            ") ORDER BY id DESC LIMIT $2",
            Product.ACTIVE,
            MOST,
        )
        return await stock_store.offers(connection, [], [product["id"] for product in products])


async def refresh_statistics(owner_url: str, tables: Iterable[sa.Table]) -> None:
    """Let Postgres look at what was loaded: it plans by what it knows about the tables."""
    async with connected(owner_url) as connection:
        for table in tables:
            await connection.execute(f'VACUUM (ANALYZE) "{table.schema}".{table.name}')
