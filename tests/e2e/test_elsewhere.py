"""A shop whose schemas are in two clusters of Postgres, both behind PgBouncer in transaction mode.

No statement crosses schemas, and none needs a session, but for those that listen.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from cli import beside_databases, doctor
from cli.database import databases_from, databases_of, ensure_database, with_user
from cli.examinations import Health
from cli.postgres import Cluster, serve
from cli.postgres_binaries import find_tool
from cli.topology import free_port
from tests.e2e.conftest import opened
from tests.e2e.orders import POSTAL, pay, until
from tests.e2e.streams import Stream, streaming
from tests.pgbouncer import SESSIONS, Pooler, pooling
from tests.postgres_fixtures import in_database
from tests.shop import command
from tests.visitors import Shop, answered

# These have a database of their own, in the other cluster, of which they are the owners.
MOVED = ("order", "catalog")
BUYERS = 6


@pytest.fixture(scope="module")
async def pooler(
    postgres_url: str, worker: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Pooler, dict[str, str]]]:
    """The pooler, and what a shop is told that uses it."""
    with tempfile.TemporaryDirectory(prefix="shop-other-") as folder:
        other = Cluster(
            Path(folder) / "postgres", Path(folder) / "password", free_port(), durable=False
        )
        other.create()
        here = in_database(postgres_url, f"elsewhere_{worker}")
        there = {
            name: with_user(other.url(f"only_{name}"), f"only_{name}", f"word of {name}")
            for name in MOVED
        }
        with serve(other, Path(folder) / "log"):
            await ensure_database(postgres_url, f"elsewhere_{worker}")
            connection = await asyncpg.connect(other.url("postgres"))
            for name in MOVED:
                await connection.execute(f"CREATE ROLE only_{name} LOGIN PASSWORD 'word of {name}'")
                await connection.execute(f"CREATE DATABASE only_{name} OWNER only_{name}")
            await connection.close()
            roles = databases_of(here).services.values()
            with pooling(here, *roles, *there.values()) as running:
                told = {"SHOP_DIRECT_DATABASE_URL": here, "SHOP_DATABASE_URL": running.url(here)}
                for name, url in there.items():
                    told[f"SHOP_{name.upper()}_DIRECT_DATABASE_URL"] = url
                    told[f"SHOP_{name.upper()}_DATABASE_URL"] = running.url(url)
                yield running, told


@pytest.fixture(scope="module")
async def shop(
    pooler: tuple[Pooler, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """A shop that uses it."""
    async with opened(tmp_path_factory.mktemp("elsewhere"), **pooler[1]) as shop:
        yield shop


async def bought(shop: Shop, product: dict[str, object]) -> str:
    """The number of an order of somebody new, from the cart to the mail; watched meanwhile."""
    buyer = await shop.sign_up()
    item = {"product_id": product["id"], "quantity": 2}
    answered(await buyer.post("/api/cart/items/", item))
    order = answered(
        await buyer.post("/api/orders/", {"shipping_address": POSTAL}, idempotency_key="mine"), 201
    )
    statuses = []
    async with streaming(buyer, f"/api/orders/{order['id']}/watch/") as answer:
        stream = Stream(answer)
        statuses.append((await stream.next())["event"]["to_status"])
        assert (await pay(buyer, order))["status"] == "SUCCEEDED"
        async for said in stream:
            if said.get("event"):
                statuses.append(said["event"]["to_status"])
            if "PAID" in statuses:
                break
    paid = await until(buyer, order, "PAID")
    (mail,) = await shop.mails(buyer.email, order["number"])
    assert mail["To"] == buyer.email
    async with asyncio.timeout(30):
        while answered(await buyer.get("/api/cart/"))["items"]:
            await asyncio.sleep(0.05)
    return str(paid["number"])


async def test_purchases_are_whole(shop: Shop, pooler: tuple[Pooler, dict[str, str]]) -> None:
    running, told = pooler
    product = await shop.new_product(stock=100)
    numbers = await asyncio.gather(*(bought(shop, product) for _ in range(BUYERS)))
    assert len(set(numbers)) == BUYERS
    left = answered(await shop.staff.get(f"/api/products/{product['id']}/"))["variants"][0]
    assert (left["on_hand"], left["reserved"]) == (100 - 2 * BUYERS, 0)

    # Where everything went: few sessions have served all processes.
    psql = find_tool("psql", at_least=0)
    console = running.url(in_database(running.admin, "pgbouncer"))
    pools = await command(psql, console, "-AtF,", "-c", "SHOW POOLS")
    rows = [line.split(",") for line in pools.stdout.splitlines()]
    used = {(row[0], row[1]): int(row[6]) + int(row[7]) + int(row[8]) for row in rows}
    assert {user for _, user in used} >= {"shop_users", "shop_cart", "shop_payment"}
    assert {database for database, _ in used} >= {"only_order", "only_catalog"}
    assert max(used.values()) <= SESSIONS
    connection = await asyncpg.connect(told["SHOP_ORDER_DIRECT_DATABASE_URL"])
    try:
        assert await connection.fetchval('SELECT count(*) FROM "order".orders') == BUYERS
        listening = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = $1",
            "only_order",
        )
        assert listening > 0
    finally:
        await connection.close()


async def test_the_doctor_looks_behind_the_pooler(
    shop: Shop, pooler: tuple[Pooler, dict[str, str]], tmp_path: Path
) -> None:
    databases = databases_from(pooler[1])
    assert databases is not None
    assert databases.poolers.keys() == databases.services.keys()
    for service in ("users", "cart", "payment"):
        found = await beside_databases.pooler(service, databases.poolers[service])
        assert found.health is Health.WELL, found
    # It owns its database, so it migrates it as well: limits are not the shop's to set.
    found = await beside_databases.pooler("order", databases.poolers["order"])
    assert found.health is Health.ILL
    assert "ALTER ROLE only_order SET statement_timeout = '3s';" in found.advice
    everything = await doctor.examine(tmp_path, os.environ | pooler[1])
    assert any("cart through the pooler" in one.what for one in everything)
