"""`shop backup` and `shop restore`: promise E13, in short. `make drill` is the long form."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from rich.progress import Progress

from cli.backup import back_up
from cli.backup_files import Manifest, contents
from cli.commands import Wanted
from cli.database import Databases, databases_of
from cli.programs import StartError
from cli.restore import restore
from cli.seed_shop import load
from cli.topology import ALL_SERVICES
from cli.verify import verify
from tests.postgres_fixtures import empty_all_tables, in_database
from tests.shop import SHOP, command

WANTED = Wanted(products=30, users=12, carts=20, orders=60)


def silent(_: str) -> None:
    """Nobody reads it."""


@pytest_asyncio.fixture(scope="module")
async def kept(
    databases: Databases,
    owner_connection: asyncpg.Connection,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The backup of a shop with something of everything in it."""
    await empty_all_tables(owner_connection)
    await load(databases, WANTED, "one", Progress(disable=True))
    folder = tmp_path_factory.mktemp("backup") / "kept"
    await back_up(databases, folder, jobs=2, say=silent)
    return folder


@pytest_asyncio.fixture
async def elsewhere(postgres_url: str, worker: str) -> AsyncIterator[Databases]:
    """An empty database."""
    name = f"restored_{worker}"
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name}")
        yield databases_of(in_database(postgres_url, name))
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


async def all_rows(url: str | None) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    assert url is not None
    connection = await asyncpg.connect(url, server_settings={"timezone": "UTC"})
    try:
        tables = await contents(connection, ALL_SERVICES)
        return {
            table: sorted(
                row[0] for row in await connection.fetch(f"SELECT held::text FROM {table} held")
            )
            for table in tables
        }
    finally:
        await connection.close()


async def test_every_row_comes_back_and_every_rule_holds(
    kept: Path, databases: Databases, elsewhere: Databases
) -> None:
    await restore(elsewhere, kept, jobs=2, replace=False, say=silent)
    rows = await all_rows(elsewhere.owner)
    assert rows == await all_rows(databases.owner)
    assert len(rows['"order".orders']) == WANTED.orders
    assert len(rows["catalog.products"]) == WANTED.products
    taken = datetime.fromisoformat(Manifest.read(kept).taken)
    assert [found.invariant.name for found in await verify(elsewhere, taken) if found.rows] == []


async def test_services_may_do_afterwards_what_they_could_before(
    kept: Path, elsewhere: Databases
) -> None:
    await restore(elsewhere, kept, jobs=1, replace=False, say=silent)
    connection = await asyncpg.connect(elsewhere.services["cart"])
    try:
        assert await connection.fetchval("SELECT count(*) FROM cart.carts") == WANTED.carts
        await connection.execute("DELETE FROM cart.items")
        for forbidden in ('SELECT FROM "order".orders', "DELETE FROM cart.alembic_version"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(forbidden)
    finally:
        await connection.close()


async def test_what_is_there_is_only_replaced_when_one_says_so(
    kept: Path, elsewhere: Databases
) -> None:
    await restore(elsewhere, kept, jobs=1, replace=False, say=silent)
    before = await all_rows(elsewhere.owner)
    connection = await asyncpg.connect(elsewhere.owner)
    await connection.execute("DELETE FROM cart.items")
    with pytest.raises(StartError, match=r"has data of cart, catalog.*--replace"):
        await restore(elsewhere, kept, jobs=1, replace=False, say=silent)
    assert await connection.fetchval("SELECT count(*) FROM cart.items") == 0
    await connection.close()
    await restore(elsewhere, kept, jobs=1, replace=True, say=silent)
    assert await all_rows(elsewhere.owner) == before


async def test_services_that_run_are_not_pulled_from_under(
    kept: Path, elsewhere: Databases
) -> None:
    connection = await asyncpg.connect(
        elsewhere.owner, server_settings={"application_name": "shop users"}
    )
    with pytest.raises(StartError, match="use the database: users"):
        await restore(elsewhere, kept, jobs=1, replace=True, say=silent)
    await connection.close()


async def test_a_backup_that_has_changed_is_not_touched(
    kept: Path, elsewhere: Databases, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in kept.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(kept)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    damaged = max((copy / "dump-1").iterdir(), key=lambda path: path.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    with pytest.raises(StartError, match=f"damaged: {damaged.name}"):
        await restore(elsewhere, copy, jobs=1, replace=False, say=silent)
    with pytest.raises(StartError, match="is no backup"):
        await restore(elsewhere, tmp_path, jobs=1, replace=False, say=silent)


async def test_a_single_changed_value_is_noticed(kept: Path, databases: Databases) -> None:
    connection: Any = await asyncpg.connect(databases.owner)
    try:
        transaction = connection.transaction()
        await transaction.start()
        before = await contents(connection, ["cart"])
        await connection.execute(
            "UPDATE cart.items SET quantity = quantity % 9 + 1"
            " WHERE id = (SELECT min(id::text)::uuid FROM cart.items)"
        )
        after = await contents(connection, ["cart"])
        await transaction.rollback()
    finally:
        await connection.close()
    changed = [name for name in before if before[name] != after[name]]
    assert changed == ["cart.items"]
    assert before["cart.items"].rows == after["cart.items"].rows


async def test_a_shop_on_one_machine_takes_its_keys_along(tmp_path: Path) -> None:
    """By the commands, with the embedded Postgres: nobody has to sign in again."""
    here, there, kept = tmp_path / "here", tmp_path / "there", tmp_path / "kept"
    surroundings = {k: v for k, v in os.environ.items() if not k.startswith(("SHOP_", "PG"))}
    for arguments in (
        ("migrate", "--data", here),
        ("backup", kept, "--data", here),
        ("restore", kept, "--data", there),
    ):
        done = await command(SHOP, *arguments, env=surroundings)
        assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"(\d+) of \1 rules hold", done.stdout)
    for name in ("keys/1.pem", "secrets/service", "secrets/stripe-webhook"):
        assert (there / name).read_text() == (here / name).read_text()
        assert (there / name).stat().st_mode & 0o077 == 0


async def test_a_backup_is_readable_by_its_owner_alone_and_whole(
    kept: Path, databases: Databases
) -> None:
    assert kept.stat().st_mode & 0o077 == 0
    assert list(kept.parent.iterdir()) == [kept]
    with pytest.raises(StartError, match="exists"):
        await back_up(databases, kept, jobs=1, say=silent)
