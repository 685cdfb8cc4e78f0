"""Reservations that race: never too many sold, no deadlock, nothing done twice."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from services.catalog import hold_store, stock_rules, sweeper
from services.catalog.tables import metadata
from shop.catalog.v1.catalog_pb2 import (
    CreateVariantRequest,
    DeleteVariantRequest,
    UpdateVariantRequest,
    Variant,
)
from shop.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from shop.catalog.v1.stock_pb2 import Reservation
from shop.catalog.v1.stock_pb2_grpc import StockServiceStub
from tests import running
from tests.catalog import stockroom
from tests.catalog.conftest import servicers
from tests.catalog.stockroom import EUR_10, Stockroom, order, patiently, reasons
from tests.running import Running

# SHOP_RACE_SECONDS=60 makes more of it.
SECONDS = float(os.environ.get("SHOP_RACE_SECONDS", "2"))
SECOND = timedelta(seconds=1)
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


@pytest.fixture(scope="module")
async def processes(
    database_url: Callable[[str], str], owner_connection: asyncpg.Connection
) -> AsyncIterator[list[Running]]:
    """Two processes of the service, as far as Postgres can tell. They see no deadlock.

    One would not show otherwise: the service tries again.
    """
    before = await owner_connection.fetchval(DEADLOCKS)
    async with (
        running.serving(database_url("catalog"), metadata, servicers) as first,
        running.serving(database_url("catalog"), metadata, servicers) as second,
    ):
        yield [first, second]
    # Backends report what they counted now and then, and when they end.
    await asyncio.sleep(0.5)
    assert await owner_connection.fetchval(DEADLOCKS) == before


@pytest.fixture
def replicas(shop: Stockroom, processes: list[Running]) -> list[Stockroom]:
    """The catalogue in both processes."""
    return [
        Stockroom(CatalogServiceStub(one.channel), StockServiceStub(one.channel), shop.staff)
        for one in processes
    ]


@pytest.fixture(autouse=True)
async def audited(shop: Stockroom, owner_connection: asyncpg.Connection) -> AsyncIterator[None]:
    """After every test stock, ledger and reservations agree."""
    yield
    await stockroom.audit(owner_connection)


async def test_of_fifty_pieces_exactly_fifty_are_sold(replicas: list[Stockroom]) -> None:
    variant = await replicas[0].variant(50)
    orders = [order() for _ in range(200)]
    refusals = await reasons(
        replicas[n % 2].reserve(id, (variant, 1)) for n, id in enumerate(orders)
    )
    assert Counter(refusals) == {"": 50, "OUT_OF_STOCK": 150}
    assert await replicas[0].now(variant) == (50, 50)
    won = [id for id, refusal in zip(orders, refusals, strict=True) if not refusal]
    assert set(await reasons(replicas[n % 2].commit(id) for n, id in enumerate(won))) == {""}
    assert await replicas[0].now(variant) == (0, 0)


async def test_ten_hot_skus_in_orders_of_one_to_five_lines_never_deadlock(
    replicas: list[Stockroom], processes: list[Running]
) -> None:
    variants = await replicas[0].variants(10, 100_000)
    until = asyncio.get_running_loop().time() + SECONDS
    chance = random.Random(1)
    done: Counter[str] = Counter()

    async def buy(shop: Stockroom) -> None:
        while asyncio.get_running_loop().time() < until:
            id = order()
            items = [
                (variant, chance.randint(1, 3))
                for variant in chance.sample(variants, chance.randint(1, 5))
            ]
            fate = chance.random()
            await shop.reserve(id, *items, ttl=SECOND if fate < 0.1 else None)
            if fate > 0.5:
                await shop.commit(id)
            elif fate > 0.1:
                await shop.release(id)
            if fate > 0.9:
                await shop.release(id, restock=True)
            if chance.random() < 0.1:
                await shop.adjust(chance.choice(variants), chance.choice([-1, 1]))
            done["orders"] += 1

    async def sweep(process: Running) -> None:
        while asyncio.get_running_loop().time() < until:
            await sweeper.free_expired(process.database)
            await asyncio.sleep(0.05)

    await asyncio.gather(*map(sweep, processes), *(buy(replicas[n % 2]) for n in range(100)))
    assert done["orders"] > 100


async def test_twenty_times_the_same_call_makes_one_reservation(
    replicas: list[Stockroom],
) -> None:
    one, other = await replicas[0].variants(2, 100)
    id = order()
    answers = await asyncio.gather(
        *(replicas[n % 2].reserve(id, (one, 2), (other, 3)) for n in range(20))
    )
    assert all(answer == answers[0] for answer in answers)
    assert [await replicas[0].now(item) for item in (one, other)] == [(100, 2), (100, 3)]


async def test_of_twenty_different_calls_for_an_order_one_wins(replicas: list[Stockroom]) -> None:
    variant = await replicas[0].variant(1000)
    id = order()
    refusals = await reasons(replicas[n % 2].reserve(id, (variant, n + 1)) for n in range(20))
    assert Counter(refusals) == {"": 1, "RESERVATION_MISMATCH": 19}
    assert await replicas[0].now(variant) == (1000, refusals.index("") + 1)


async def test_commits_and_releases_have_their_effect_once(replicas: list[Stockroom]) -> None:
    variant = await replicas[0].variant(100)
    kept, given_up, returned = order(), order(), order()
    for id in (kept, given_up, returned):
        await replicas[0].reserve(id, (variant, 10))
    await replicas[0].commit(returned)
    refusals = await reasons(
        call
        for n in range(10)
        for shop in [replicas[n % 2]]
        for call in (
            shop.commit(kept),
            shop.release(given_up),
            shop.release(returned, restock=True),
        )
    )
    assert set(refusals) == {""}
    assert await replicas[0].now(variant) == (90, 0)


async def test_of_a_commit_and_a_release_one_wins(replicas: list[Stockroom]) -> None:
    first, second = replicas
    variant = await first.variant(1000)
    orders = [order() for _ in range(50)]
    await asyncio.gather(*(first.reserve(id, (variant, 1)) for id in orders))
    refusals = await reasons(
        call for id in orders for call in (first.commit(id), second.release(id))
    )
    pairs = Counter(zip(refusals[::2], refusals[1::2], strict=True))
    assert pairs.keys() <= {("", "RESERVATION_COMMITTED"), ("RESERVATION_RELEASED", "")}
    sold = pairs["", "RESERVATION_COMMITTED"]
    assert await first.now(variant) == (1000 - sold, 0)


async def test_a_reserve_and_its_release_leave_nothing_held(replicas: list[Stockroom]) -> None:
    first, second = replicas
    variant = await first.variant(1000)
    orders = [order() for _ in range(50)]
    refusals = await reasons(
        call for id in orders for call in (first.reserve(id, (variant, 1)), second.release(id))
    )
    assert set(refusals[::2]) <= {"", "RESERVATION_RELEASED"}
    assert set(refusals[1::2]) == {""}
    assert await first.now(variant) == (1000, 0)


async def test_a_commit_at_the_last_moment_sells_what_the_sweeper_wants(
    replicas: list[Stockroom],
    processes: list[Running],
    owner_connection: asyncpg.Connection,
) -> None:
    variant = await replicas[0].variant(60)
    orders = [order() for _ in range(60)]
    await asyncio.gather(*(replicas[0].reserve(id, (variant, 1)) for id in orders))
    await owner_connection.execute("UPDATE catalog.reservations SET expire_time = now()")
    swept: list[Awaitable[Any]] = [sweeper.free_expired(process.database) for process in processes]
    commits = [replicas[n % 2].commit(id) for n, id in enumerate(orders)]
    answers = await asyncio.gather(*commits, *swept)
    assert {answer.state for answer in answers[:60]} == {Reservation.COMMITTED}
    assert await replicas[0].now(variant) == (0, 0)


async def test_sweepers_share_the_work(
    replicas: list[Stockroom], processes: list[Running], owner_connection: asyncpg.Connection
) -> None:
    variants = await replicas[0].variants(5, 1000)
    chance = random.Random(2)
    await asyncio.gather(
        *(
            replicas[n % 2].reserve(order(), *[(item, 1) for item in chance.sample(variants, 3)])
            for n in range(300)
        )
    )
    await owner_connection.execute("UPDATE catalog.reservations SET expire_time = now()")
    freed = await asyncio.gather(
        *(sweeper.free_expired(process.database) for process in processes * 2)
    )
    assert sum(freed) == 300
    assert [await replicas[0].now(item) for item in variants] == [(1000, 0)] * 5


async def test_who_has_waited_for_the_lock_decides_by_what_is_there_then(
    shop: Stockroom, served: Running, owner_connection: asyncpg.Connection
) -> None:
    variant = await shop.variant(1)
    held, waiting = order(), order()
    await shop.reserve(held, (variant, 1))

    async def hold() -> bool:
        line = stock_rules.Line(UUID(variant.id), 1, b"")
        wish = hold_store.Wish(UUID(waiting), [line], {line.variant_id: 1}, SECOND)
        async with served.database.statement() as connection:
            made, (found,) = await hold_store.hold(connection, wish)
            return made is not None and bool(found["moved"])

    async with owner_connection.transaction():
        await owner_connection.execute("SELECT FROM catalog.stock FOR UPDATE")
        held_then = asyncio.create_task(hold())
        await asyncio.sleep(0.2)
        assert not held_then.done()
        await owner_connection.execute("UPDATE catalog.stock SET reserved = 0")
        await owner_connection.execute(
            "UPDATE catalog.reservations SET state = 3 WHERE order_id = $1", held
        )
    assert await held_then
    assert await shop.now(variant) == (1, 1)


async def test_staff_at_work_on_the_same_variants_are_in_nobodys_way(
    replicas: list[Stockroom],
) -> None:
    shop = replicas[0]
    product = await shop.product(price=EUR_10, stock=1000)
    sizes = [
        await shop.catalog.CreateVariant(
            CreateVariantRequest(
                product_id=product.id, options={"size": str(size)}, price=EUR_10, stock=1000
            ),
            metadata=shop.staff(),
        )
        for size in range(6)
    ]
    goes = sizes[:2]
    chance = random.Random(3)

    async def change(variant: Variant, weight: int) -> None:
        request = UpdateVariantRequest(
            product_id=product.id,
            id=variant.id,
            weight_grams=weight,
            allow_backorder=bool(weight % 2),
        )
        request.update_mask.paths.extend(["weight_grams", "allow_backorder"])
        await patiently(lambda: shop.catalog.UpdateVariant(request, metadata=shop.staff()))

    async def remove(variant: Variant) -> None:
        request = DeleteVariantRequest(product_id=product.id, id=variant.id)
        await patiently(lambda: shop.catalog.DeleteVariant(request, metadata=shop.staff()))

    calls: list[Awaitable[Any]] = [
        replicas[n % 2].reserve(
            order(), *[(item, 1) for item in chance.sample(sizes, chance.randint(1, 5))]
        )
        for n in range(60)
    ]
    calls += [change(chance.choice(sizes[2:]), n) for n in range(20)]
    calls += [remove(variant) for variant in goes]
    chance.shuffle(calls)
    assert set(await reasons(calls)) <= {
        "",
        "OUT_OF_STOCK",
        "RESOURCE_NOT_FOUND",
        "STOCK_RESERVED",
    }
