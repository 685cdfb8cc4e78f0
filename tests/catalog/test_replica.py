"""A catalogue with a read-only replica: who browses is answered by it, nobody misses a change."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from prometheus_client import REGISTRY

from cli import beside_databases, migrate
from cli.database import databases_of, ensure_database
from cli.examinations import Health
from cli.postgres import Cluster, processes_in, serve
from cli.topology import free_port
from services.catalog.handlers import CatalogService
from services.catalog.stock_handlers import StockService
from services.catalog.tables import metadata
from services.kit.db import Database
from services.kit.replica import Replica
from shop.catalog.v1 import catalog_pb2_grpc, stock_pb2_grpc
from shop.catalog.v1.catalog_pb2 import (
    CreateCategoryRequest,
    GetCategoryRequest,
    GetProductRequest,
    ListCategoriesRequest,
    ListProductsRequest,
    NewVariant,
    Product,
    UpdateCategoryRequest,
)
from shop.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from shop.catalog.v1.stock_pb2_grpc import StockServiceStub
from tests import running
from tests.callers import User
from tests.catalog.stockroom import EUR_10, Stockroom, order
from tests.catalog.test_shelf import CHANGES, Scene, eventually, seen, true
from tests.postgres_fixtures import empty_all_tables
from tests.running import Running
from tools.standby import FOLLOWED, follow

# Longer than any test: what is not told is not seen.
LONG = 3600.0


@dataclass
class Pair:
    """A primary with the catalogue, and its standby."""

    primary: Cluster
    standby: Cluster
    owner: asyncpg.Connection
    copy: asyncpg.Connection

    def url(self, of: Cluster) -> str:
        """Where the catalogue finds one of them."""
        return databases_of(of.url()).services["catalog"]

    async def caught_up(self) -> bool:
        """Whether the standby has replayed all there is."""
        written = await self.owner.fetchval("SELECT pg_current_wal_flush_lsn()::text")
        there = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn"
        return bool(await self.copy.fetchval(there, written))

    @contextlib.asynccontextmanager
    async def held_back(self, replica: Replica) -> AsyncIterator[None]:
        """The standby has all there is by now, and replays nothing more meanwhile."""
        now = time.monotonic()

        async def is_known_to_have_it() -> bool:
            return replica.lag < time.monotonic() - now

        await eventually(is_known_to_have_it)
        await self.copy.execute("SELECT pg_wal_replay_pause()")
        await eventually(self._is_paused)
        try:
            yield
        finally:
            await self.copy.execute("SELECT pg_wal_replay_resume()")

    async def _is_paused(self) -> bool:
        return bool(await self.copy.fetchval("SELECT pg_get_wal_replay_pause_state() = 'paused'"))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One that whoever runs Postgres can reach."""
    made = Path(tempfile.mkdtemp(prefix="shop-replica-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(autouse=True)
def measured_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.kit.replica.PAUSE_SECONDS", 0.02)


@pytest.fixture(scope="module")
async def pair(folder: Path) -> AsyncIterator[Pair]:
    """Two Postgres of this module's own."""
    primary = Cluster(
        folder / "primary", folder / "password", free_port(), durable=False, settings=FOLLOWED
    )
    primary.create()
    with serve(primary, folder / "primary.log"):
        await ensure_database(primary.url("postgres"), "shop")
        await migrate.migrate(databases_of(primary.url()), ["catalog"])
        standby = follow(primary, folder / "standby")
        with serve(standby, folder / "standby.log"):
            owner, copy = [await asyncpg.connect(of.url()) for of in (primary, standby)]
            yield Pair(primary, standby, owner, copy)
            copy.terminate()  # a test may have ended it
            await owner.close()


@dataclass
class Served:
    """A catalogue that has a replica."""

    running: Running
    replica: Replica
    shop: Stockroom

    @property
    def catalog(self) -> CatalogServiceStub:
        return self.shop.catalog

    async def listed(self, caller: User | None = None) -> set[str]:
        """The ids of all products that somebody finds."""
        page = await self.catalog.ListProducts(
            ListProductsRequest(page_size=1000), metadata=caller() if caller else ()
        )
        return {product.id for product in page.products}

    async def near(self) -> bool:
        return self.replica.is_near


@contextlib.asynccontextmanager
async def serving(
    pair: Pair, *, url: str = "", most_seconds: float = LONG
) -> AsyncIterator[Served]:
    """A catalogue whose replica may be so far behind; the standby, or what `url` names."""
    await empty_all_tables(pair.owner)
    made: list[Replica] = []
    work: list[asyncio.Task[None]] = []

    def servicers(database: Database) -> list[tuple[object, object]]:
        there = url or pair.url(pair.standby)
        replica = Replica.of(database, there, metadata, connections=5, most_seconds=most_seconds)
        products = CatalogService(database, replica)
        made.append(replica)
        work.append(asyncio.ensure_future(products.shelf.forever()))
        work.append(asyncio.ensure_future(replica.follow()))
        return [
            (catalog_pb2_grpc.add_CatalogServiceServicer_to_server, products),
            (stock_pb2_grpc.add_StockServiceServicer_to_server, StockService(database)),
        ]

    primary = pair.url(pair.primary)
    async with running.serving(primary, metadata, servicers) as one:  # type: ignore[arg-type]
        stubs = CatalogServiceStub(one.channel), StockServiceStub(one.channel)
        try:
            yield Served(one, made[0], Stockroom(*stubs, User("STAFF")))
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)


@pytest.fixture
async def served(pair: Pair) -> AsyncIterator[Served]:
    """A catalogue whose replica is read, however far it is behind."""
    async with serving(pair) as catalogue:
        await eventually(catalogue.near)
        yield catalogue


def answered_by(side: str) -> float:
    return REGISTRY.get_sample_value("shop_db_tolerant_reads_total", {"side": side}) or 0.0


async def test_who_browses_is_answered_by_the_replica(pair: Pair, served: Served) -> None:
    old = await served.shop.product(price=EUR_10)
    async with pair.held_back(served.replica):
        new = await served.shop.product(price=EUR_10)
        before = answered_by("replica")
        async with served.running.counting() as statements:
            assert await served.listed() == {old.id}
        assert not [text for text in statements if "products" in text]  # on the primary
        assert answered_by("replica") == before + 1
        for caller in (User("CUSTOMER"), User("STAFF")):
            assert await served.listed(caller) == {old.id, new.id}

    async def is_listed() -> bool:
        return await served.listed() == {old.id, new.id}

    await eventually(is_listed)


async def test_a_product_that_the_replica_does_not_know_yet_is_found(
    pair: Pair, served: Served
) -> None:
    async with pair.held_back(served.replica):
        new = await served.shop.product(price=EUR_10, slug="just-added")
        for id in (new.id, new.slug):
            found = await served.catalog.GetProduct(GetProductRequest(id=id))
            assert found == await true(served.shop, new)


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_is_seen_at_once_though_the_replica_has_not_heard_of_it(
    pair: Pair, served: Served, change: str
) -> None:
    variants = [NewVariant(price=EUR_10, stock=5, options={"size": size}) for size in ("S", "M")]
    product = await served.shop.product(*variants, slug=f"thing-{order()}")
    scene = Scene(served.shop, served.running, pair.owner, product)
    async with pair.held_back(served.replica):
        assert await seen(served.catalog, product) == [await true(served.shop, product)] * 3
        await CHANGES[change](scene)
        after = await true(served.shop, product)
        listed = 1 if after.state == Product.ACTIVE else 0
        assert await seen(served.catalog, product) == [after] * (2 + listed)


async def test_categories_lag_in_lists_only(pair: Pair, served: Served) -> None:
    staff = User("STAFF")
    old = await served.catalog.CreateCategory(CreateCategoryRequest(name="Lamps"), metadata=staff())
    async with pair.held_back(served.replica):
        new = await served.catalog.CreateCategory(
            CreateCategoryRequest(name="Shades"), metadata=staff()
        )
        changed = await served.catalog.UpdateCategory(
            UpdateCategoryRequest(id=old.id, name="Lights"), metadata=staff()
        )
        for category in (new, changed):
            found = await served.catalog.GetCategory(GetCategoryRequest(id=category.id))
            assert found == category
        for caller, expected in (((), [old]), (staff(), [changed, new])):
            page = await served.catalog.ListCategories(ListCategoriesRequest(), metadata=caller)
            assert list(page.categories) == expected


async def test_a_replica_that_lags_too_far_is_not_read(pair: Pair) -> None:
    async with serving(pair, most_seconds=0.7) as served, pair.held_back(served.replica):
        new = await served.shop.product(price=EUR_10)

        async def is_listed() -> bool:
            return await served.listed() == {new.id}

        async def is_left_alone() -> bool:
            return not served.replica.is_near

        await eventually(is_listed)
        await eventually(is_left_alone)
        lag = REGISTRY.get_sample_value("shop_db_replica_lag_seconds")
        assert lag is not None
        assert lag > 0.7
        before = answered_by("primary")
        assert await served.listed() == {new.id}
        assert answered_by("primary") == before + 1
    # It is read again as soon as it is near again.
    async with serving(pair, most_seconds=20) as served:
        await eventually(served.near)


async def test_a_primary_is_no_replica(pair: Pair) -> None:
    async with serving(pair, url=pair.url(pair.primary)) as served:
        product = await served.shop.product(price=EUR_10)
        await asyncio.sleep(1)
        assert not served.replica.is_near
        assert await served.listed() == {product.id}


async def test_the_doctor_tells_a_replica_from_what_is_none(pair: Pair) -> None:
    primary, standby = pair.url(pair.primary), pair.url(pair.standby)
    found = await beside_databases.replica("catalog", standby, primary)
    assert found.health is Health.WELL, found
    found = await beside_databases.replica("catalog", primary, primary)
    assert (found.health, "follows nobody" in found.what) == (Health.ODD, True)
    nowhere = standby.replace(str(pair.standby.port), str(free_port()))
    found = await beside_databases.replica("catalog", nowhere, primary)
    assert (found.health, "cannot be read" in found.what) == (Health.ODD, True)


async def test_a_replica_that_does_not_answer_is_noticed_by_nobody(
    pair: Pair, served: Served
) -> None:
    """Stopped first, with connections that hang; then killed. The last test: it does not return."""
    product = await served.shop.product(price=EUR_10)
    await eventually(pair.caught_up)
    standby = processes_in(pair.standby.data)
    for pid in standby:
        os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            async with asyncio.timeout(30):
                assert await served.listed() == {product.id}
    finally:
        for pid in standby:
            os.kill(pid, signal.SIGKILL)
    before = answered_by("primary")
    for number in range(2, 5):
        await served.shop.product(price=EUR_10)
        assert len(await served.listed()) == number
    assert answered_by("primary") > before
