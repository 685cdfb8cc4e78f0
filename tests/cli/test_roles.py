"""Each service's role works in its own schema and nowhere else (promise E15)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
import pytest_asyncio

from cli.topology import ALL_SERVICES

Connect = Callable[[str], Awaitable[asyncpg.Connection]]
PAIRS = [(role, schema) for role in ALL_SERVICES for schema in ALL_SERVICES if role != schema]


@pytest_asyncio.fixture(autouse=True)
async def a_table_in_every_schema(owner_connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Made after the roles, as migrations do."""
    for schema in ALL_SERVICES:
        await owner_connection.execute(
            f'CREATE TABLE "{schema}".probe (id bigint GENERATED ALWAYS AS IDENTITY, word text)'
        )
    yield
    for schema in ALL_SERVICES:
        await owner_connection.execute(f'DROP TABLE "{schema}".probe')


@pytest_asyncio.fixture
async def connect(
    database_url: Callable[[str], str],
) -> AsyncIterator[Connect]:
    opened: list[asyncpg.Connection] = []

    async def connect_as(service: str) -> asyncpg.Connection:
        opened.append(await asyncpg.connect(database_url(service)))
        return opened[-1]

    yield connect_as
    for connection in opened:
        await connection.close()


@pytest.mark.parametrize("service", ALL_SERVICES)
async def test_a_service_reads_and_writes_its_own_tables(service: str, connect: Connect) -> None:
    connection = await connect(service)
    assert await connection.fetchval("SELECT current_user") == f"shop_{service}"
    await connection.execute(f"INSERT INTO \"{service}\".probe (word) VALUES ('a')")
    await connection.execute(f"UPDATE \"{service}\".probe SET word = 'b'")
    assert await connection.fetchval(f'SELECT word FROM "{service}".probe') == "b"
    await connection.execute(f'DELETE FROM "{service}".probe')


@pytest.mark.parametrize(("service", "schema"), PAIRS)
async def test_a_service_reaches_no_table_of_another(
    service: str, schema: str, connect: Connect
) -> None:
    connection = await connect(service)
    for statement in (
        f'SELECT * FROM "{schema}".probe',
        f"INSERT INTO \"{schema}\".probe (word) VALUES ('a')",
        f"UPDATE \"{schema}\".probe SET word = 'a'",
        f'DELETE FROM "{schema}".probe',
        f'TRUNCATE "{schema}".probe',
        f'CREATE TABLE "{schema}".mine ()',
        f"SELECT nextval('\"{schema}\".probe_id_seq')",
        f"SET ROLE shop_{schema}",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


@pytest.mark.parametrize("service", ALL_SERVICES)
async def test_a_service_changes_no_definition_and_makes_nothing(
    service: str, connect: Connect
) -> None:
    connection = await connect(service)
    for statement in (
        f'ALTER TABLE "{service}".probe ADD COLUMN more text',
        f'DROP TABLE "{service}".probe',
        f'TRUNCATE "{service}".probe',
        f'CREATE TABLE "{service}".mine ()',
        "CREATE TABLE public.mine ()",
        "CREATE TEMPORARY TABLE mine ()",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "SELECT * FROM pg_authid",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


@pytest.mark.parametrize("service", ["users", "catalog"])
async def test_a_service_does_not_rewrite_its_history(service: str, connect: Connect) -> None:
    connection = await connect(service)
    assert await connection.fetchval(f'SELECT version_num FROM "{service}".alembic_version')
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(f'DELETE FROM "{service}".alembic_version')
