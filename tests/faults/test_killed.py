"""Parts of a running shop are killed while it is called: who notices, and what is lost."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.faults.traffic import Additions, Ask, calling, until
from tests.shop import Process
from tests.visitors import Shop, answered


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


@pytest.mark.parametrize(("killed", "other"), [("catalog", "users"), ("users", "catalog")])
async def test_a_killed_service_is_back_and_the_other_one_unharmed(
    shop: Shop, killed: str, other: str
) -> None:
    ask, unharmed = asks(shop)[killed], asks(shop)[other]
    before = part(shop, f"services.{killed}")
    async with calling(ask) as own, calling(unharmed) as others:
        await own.more(5)
        before.send(signal.SIGKILL)
        dead = time.monotonic()

        def replaced() -> bool:
            now = shop.up.find(f"services.{killed}")
            return now is not None and now.pid != before.pid

        await until(replaced, 3)
        again = time.monotonic()
        await until(lambda: bool(own.good_after(again)), 5)
        assert own.good_after(again)[0].ended - dead < 3
        await others.more(20)
    assert others.bad == []
    assert len(others.calls) > 40
    assert own.reasons <= {"DEPENDENCY_UNAVAILABLE", "INTERRUPTED"}
    assert max(call.seconds for call in own.bad) < 2


async def test_what_was_written_is_there_after_postgres_was_killed(shop: Shop) -> None:
    additions = Additions(shop)
    postmaster = part(shop, "/postgres ")
    async with calling(additions, at_once=4) as writes, calling(asks(shop)["users"]) as reads:
        await writes.more(40)
        postmaster.send(signal.SIGKILL)
        await until(lambda: shop.up.find("/postgres ") not in (None, postmaster), 5)
        again = time.monotonic()
        await until(lambda: accepts(shop), 5)
        back = time.monotonic()
        await writes.more(40)
        await reads.more(5)
    for traffic in (writes, reads):
        assert traffic.good_after(again)[0].ended - back < 2
    assert writes.reasons | reads.reasons <= {"DEPENDENCY_UNAVAILABLE", "DEADLINE_EXCEEDED"}

    async with connected(shop) as database:
        assert additions.acknowledged <= await skus(database)

        # What was refused may have happened or not. Repeated with its key, it has happened once.
        for key in additions.answers.keys() - additions.acknowledged:
            answered(await additions.add(key), 201)
        assert await skus(database) == additions.answers.keys()
        assert await audit(database) == []


async def test_a_killed_envoy_is_back(shop: Shop) -> None:
    before = part(shop, "/envoy ")
    async with calling(asks(shop)["users"]) as traffic:
        before.send(signal.SIGKILL)
        dead = time.monotonic()
        await until(lambda: shop.up.find("/envoy ") not in (None, before), 3)
        await traffic.more(5)
    assert traffic.good_after(dead)[0].ended - dead < 3


async def accepts(shop: Shop) -> bool:
    """Whether Postgres takes connections."""
    try:
        async with connected(shop):
            return True
    except (OSError, asyncpg.PostgresError):
        return False


@contextlib.asynccontextmanager
async def connected(shop: Shop) -> AsyncIterator[asyncpg.Connection]:
    """A new connection of the owner's; older ones have ended with Postgres."""
    connection = await asyncpg.connect(shop.ready.database_url, timeout=2)
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
