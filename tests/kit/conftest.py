"""What the tests of the kit stand on: a schema of their own, and a service of things."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from cli.database import Databases
from services.kit.db import Database
from tests.kit import schema
from tests.kit.serving import Served, serving


@pytest_asyncio.fixture(scope="session")
async def schema_url(databases: Databases, owner_connection: asyncpg.Connection) -> str:
    """Where the schema of things is, in this worker's database."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    await owner_connection.execute("CREATE SCHEMA kit")
    for table in schema.metadata.sorted_tables:
        await owner_connection.execute(str(CreateTable(table).compile(dialect=dialect)))
        for index in table.indexes:
            await owner_connection.execute(str(CreateIndex(index).compile(dialect=dialect)))
    assert databases.owner is not None
    return databases.owner


@pytest_asyncio.fixture
async def url(schema_url: str, owner_connection: asyncpg.Connection) -> str:
    """The same, with its tables empty."""
    names = ", ".join(table.fullname for table in schema.metadata.sorted_tables)
    await owner_connection.execute(f"TRUNCATE {names}")
    return schema_url


@pytest_asyncio.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """Connections to the schema of things."""
    opened = await Database.open(url, schema.metadata, name="kit tests")
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def served(database: Database) -> AsyncIterator[Served]:
    """Things, served in all layers."""
    async with serving(database) as things:
        yield things
