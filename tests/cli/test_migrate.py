"""Migrations: applied once, by one run at a time, without making a running shop wait."""

from __future__ import annotations

import asyncio
import importlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from cli import migrate, schemas
from cli.database import Databases, databases_from, databases_of, service_url, with_user
from cli.programs import StartError
from cli.topology import SERVICES
from services.kit import sessions
from tests.postgres_fixtures import in_database


@pytest_asyncio.fixture
async def empty(postgres_url: str, worker: str) -> AsyncIterator[Databases]:
    """A database with nothing in it."""
    name = f"empty_{worker}"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"CREATE DATABASE {name}")
    yield databases_of(in_database(postgres_url, name))
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty history of the cart service; the folder for its migrations."""
    for name in ("env.py", "script.py.mako"):
        shutil.copy(migrate.FOLDER / name, tmp_path)
    monkeypatch.setattr(migrate, "FOLDER", tmp_path)
    versions = tmp_path / "cart" / "versions"
    versions.mkdir(parents=True)
    return versions


def write(versions: Path, revision: str, after: str | None, operation: str) -> None:
    (versions / f"{revision}_test.py").write_text(
        f'"""Step {revision}."""\n'
        "from alembic import op\n"
        "from migrations.online import create_index_concurrently\n"
        f"revision = {revision!r}\ndown_revision = {after!r}\n"
        f"def upgrade():\n    {operation}\n"
    )


async def run(databases: Databases) -> list[str]:
    applied: list[migrate.Migration] = []
    await migrate.migrate(databases, applied=applied.append)
    return [str(step) for step in applied]


async def test_a_second_run_finds_nothing_to_do(empty: Databases) -> None:
    pending = [str(step) for step in await migrate.pending(empty)]
    assert await run(empty) == pending
    assert pending
    assert await run(empty) == []
    assert await migrate.pending(empty) == []


@pytest.mark.parametrize("service", migrate.migrated_services())
def test_names_of_files_tell_the_newest_migration(service: str) -> None:
    assert schemas.newest(service) == migrate.revisions(service)[-1]


async def test_only_what_every_service_finds_up_to_date_needs_no_migration(
    empty: Databases,
) -> None:
    assert not await schemas.is_current(empty, SERVICES)
    await run(empty)
    assert await schemas.is_current(empty, SERVICES)
    assert empty.owner is not None
    owner = await asyncpg.connect(empty.owner)
    await owner.execute("UPDATE cart.alembic_version SET version_num = '0000'")
    assert not await schemas.is_current(empty, SERVICES)
    assert await schemas.is_current(empty, {*SERVICES} - {"cart"})
    await owner.execute("DROP SCHEMA cart CASCADE")
    assert not await schemas.is_current(empty, SERVICES)
    await owner.close()


async def test_runs_at_the_same_time_apply_each_step_once(empty: Databases) -> None:
    pending = [str(step) for step in await migrate.pending(empty)]
    applied = await asyncio.gather(*(run(empty) for _ in range(4)))
    assert sorted(applied, key=len) == [[], [], [], pending]


async def test_one_service_alone(empty: Databases) -> None:
    await migrate.migrate(empty, ["catalog"])
    assert {step.service for step in await migrate.pending(empty)} == (
        set(migrate.migrated_services()) - {"catalog"}
    )


@pytest.mark.parametrize("service", migrate.migrated_services())
async def test_tables_and_migrations_agree(service: str, databases: Databases) -> None:
    tables = importlib.import_module(f"services.{service}.tables")
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(databases.owner)
    )

    def compare(connection: sa.Connection) -> object:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == service,
                "compare_server_default": True,
                "version_table_schema": service,
            },
        )
        return compare_metadata(context, tables.metadata)

    async with engine.connect() as connection:
        assert await connection.run_sync(compare) == []
    await engine.dispose()


async def test_an_index_is_built_while_another_run_waits(empty: Databases, history: Path) -> None:
    write(history, "0001", None, 'op.execute("CREATE TABLE cart.lines AS SELECT 1 AS id")')
    write(history, "0002", "0001", 'create_index_concurrently("i", "lines", "(id)", schema="cart")')
    applied = await asyncio.gather(*(run(empty) for _ in range(3)))
    assert sorted(applied, key=len) == [[], [], ["cart 0001: Step 0001", "cart 0002: Step 0002"]]


async def test_an_index_that_failed_half_way_is_built_again(
    empty: Databases, history: Path
) -> None:
    table = "CREATE TABLE cart.lines AS SELECT 1 AS id FROM generate_series(1, 2)"
    write(history, "0001", None, f'op.execute("{table}")')
    write(
        history,
        "0002",
        "0001",
        'create_index_concurrently("i", "lines", "(id)", schema="cart", unique=True)',
    )
    with pytest.raises(StartError, match="could not create unique index"):
        await run(empty)
    connection = await asyncpg.connect(empty.owner)
    await connection.execute("DELETE FROM cart.lines WHERE ctid = '(0,1)'")
    await connection.close()
    assert await run(empty) == ["cart 0002: Step 0002"]


async def test_a_migration_that_meets_a_lock_lets_others_pass_and_tries_again(
    empty: Databases, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_PAUSE_SECONDS", 0.05)
    write(history, "0001", None, 'op.execute("CREATE TABLE cart.lines AS SELECT 1 AS id")')
    await run(empty)
    write(history, "0002", "0001", 'op.execute("ALTER TABLE cart.lines ADD COLUMN more text")')
    reader = await asyncpg.connect(empty.owner)
    async with reader.transaction():
        await reader.fetchval("SELECT id FROM cart.lines")
        migrating = asyncio.create_task(run(empty))
        await asyncio.sleep(0.3)
        # Behind a migration that waited on, this one would wait as well.
        async with asyncio.timeout(1):
            other = await asyncpg.connect(empty.owner)
            await other.fetchval("SELECT id FROM cart.lines")
            await other.close()
        assert not migrating.done()
    assert await migrating == ["cart 0002: Step 0002"]
    await reader.close()


async def test_a_failed_step_changes_nothing_and_is_told(empty: Databases, history: Path) -> None:
    two = 'op.execute("CREATE TABLE cart.lines ()"); op.execute("SELECT 1 / 0")'
    write(history, "0001", None, two)
    with pytest.raises(StartError, match=r"A migration of cart failed: .*division by zero"):
        await run(empty)
    connection = await asyncpg.connect(empty.owner)
    assert await connection.fetchval("SELECT to_regclass('cart.lines')") is None
    await connection.close()


async def test_a_database_from_the_future_is_refused(empty: Databases, history: Path) -> None:
    write(history, "0001", None, 'op.execute("SELECT 1")')
    write(history, "0002", "0001", 'op.execute("SELECT 1")')
    await run(empty)
    (history / "0002_test.py").unlink()
    with pytest.raises(StartError, match="older than the database"):
        await run(empty)


async def test_a_service_with_its_own_database_migrates_as_itself(
    empty: Databases, history: Path
) -> None:
    write(history, "0001", None, 'op.execute("CREATE TABLE cart.lines AS SELECT 1 AS id")')
    assert empty.owner is not None
    owner = await asyncpg.connect(empty.owner)
    await owner.execute("CREATE ROLE alone LOGIN PASSWORD 'secret'")
    try:
        name = await owner.fetchval("SELECT current_database()")
        await owner.execute(f"GRANT CREATE ON DATABASE {name} TO alone")
        own = Databases(None, {"cart": with_user(empty.owner, "alone", "secret")})
        assert await run(own) == ["cart 0001: Step 0001"]
        assert await run(own) == []
        tables = "SELECT tableowner FROM pg_tables WHERE schemaname = 'cart'"
        assert {row[0] for row in await owner.fetch(tables)} == {"alone"}
    finally:
        await owner.execute("DROP OWNED BY alone CASCADE")
        await owner.execute("DROP ROLE alone")
        await owner.close()


def test_every_service_gets_its_own_url() -> None:
    found = databases_from({"SHOP_DATABASE_URL": "postgresql://owner:s%2Fcret@db.example:6000/all"})
    assert found is not None
    assert found.services["users"] == (
        "postgresql://shop_users:" + found.services["users"][24:56] + "@db.example:6000/all"
    )
    assert len({*found.services.values()}) == 5
    assert [place.services for place in found.places()] == [
        ("users", "catalog", "cart", "order", "payment")
    ]


def test_a_service_elsewhere_is_a_place_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://cart:x@elsewhere/db\n")
    found = databases_from(
        {
            "SHOP_DATABASE_URL": "postgresql://owner:secret@here/shop",
            "SHOP_CART_DATABASE_URL_FILE": str(tmp_path / "url"),
        }
    )
    assert found is not None
    assert found.services["cart"] == "postgresql://cart:x@elsewhere/db"
    assert [(place.url, place.services) for place in found.places()] == [
        ("postgresql://owner:secret@here/shop", ("users", "catalog", "order", "payment")),
        ("postgresql://cart:x@elsewhere/db", ("cart",)),
    ]


def test_what_stands_before_a_database_and_beside_it_is_told_apart() -> None:
    found = databases_from(
        {
            "SHOP_DATABASE_URL": "postgresql://owner:secret@pooler:6432/shop",
            "SHOP_DIRECT_DATABASE_URL": "postgresql://owner:secret@one,two:5433/shop",
            "SHOP_REPLICA_DATABASE_URL": "postgresql://owner:secret@copy/shop",
            "SHOP_CART_DATABASE_URL": "postgresql://cart:x@elsewhere/db",
            "SHOP_CART_DIRECT_DATABASE_URL": "postgresql://cart:x@elsewhere/db",
        }
    )
    assert found is not None
    told = {name: url.rpartition("@")[2] for name, url in found.told("catalog").items()}
    assert told == {
        "DATABASE_URL": "pooler:6432/shop",
        "DIRECT_DATABASE_URL": "one,two:5433/shop",
        "REPLICA_DATABASE_URL": "copy/shop",
    }
    assert found.told("users").keys() == {"DATABASE_URL", "DIRECT_DATABASE_URL"}
    # Migrations go to Postgres itself; its port may be said or not.
    assert [(place.url, place.services) for place in found.places()] == [
        ("postgresql://owner:secret@one,two:5433/shop", ("users", "catalog", "order", "payment")),
        ("postgresql://cart:x@elsewhere/db", ("cart",)),
    ]
    same = replace(found, services={"users": "postgresql://u:x@one:5432,two:5433/shop"})
    assert [place.services for place in same.places()] == [("users",)]
    assert len(same.places()[0].roles) == 1


async def test_roles_have_the_limits_of_services_whoever_connects(databases: Databases) -> None:
    connection = await asyncpg.connect(databases.services["order"])
    try:
        shown = {name: await connection.fetchval(f"SHOW {name}") for name in sessions.SESSION}
    finally:
        await connection.close()
    assert shown == sessions.SESSION


def test_an_owner_without_password_is_refused() -> None:
    with pytest.raises(StartError, match="SHOP_USERS_DATABASE_URL"):
        service_url("postgresql://owner@here/shop", "users")


def test_no_url_names_no_database() -> None:
    assert databases_from({"SHOP_LOG_LEVEL": "info"}) is None
