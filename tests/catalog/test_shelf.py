"""What the public reads is remembered, and yet never other than what staff read."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import pytest
from google.type.money_pb2 import Money
from grpc import StatusCode

from services.catalog import handlers, shelf, sweeper
from services.catalog.stock_handlers import StockService
from services.catalog.tables import metadata
from services.kit.db import Database
from shop.catalog.v1 import catalog_pb2_grpc, stock_pb2_grpc
from shop.catalog.v1.catalog_pb2 import (
    CreateVariantRequest,
    DeleteProductRequest,
    DeleteVariantRequest,
    GetProductRequest,
    ListProductsRequest,
    NewVariant,
    Product,
    UpdateProductRequest,
    UpdateVariantRequest,
)
from shop.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from shop.catalog.v1.stock_pb2_grpc import StockServiceStub
from tests import running
from tests.callers import User
from tests.catalog.stockroom import EUR_10, Stockroom, order
from tests.running import Running, refused

SECONDS = float(os.environ.get("SHOP_RACE_SECONDS", "2"))
TERMINATE = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE query LIKE 'LISTEN%' AND datname = current_database()
"""
EUR_20 = Money(currency_code="EUR", units=20)


async def seen(catalog: CatalogServiceStub, product: Product) -> list[Product]:
    """A product as the public reads it: by id, by slug, and in the list of all."""
    by_id = await catalog.GetProduct(GetProductRequest(id=product.id))
    by_slug = await catalog.GetProduct(GetProductRequest(id=by_id.slug))
    page = await catalog.ListProducts(ListProductsRequest(page_size=1000))
    listed = [one for one in page.products if one.id == product.id]
    return [by_id, by_slug, *listed]


async def true(shop: Stockroom, product: Product) -> Product:
    """The product as it is, without what only staff see."""
    request = GetProductRequest(id=product.id)
    answer: Product = await shop.catalog.GetProduct(request, metadata=shop.staff())
    for variant in answer.variants:
        variant.ClearField("on_hand")
        variant.ClearField("reserved")
    return answer


@dataclass
class Scene:
    """A product with two variants that everybody has just looked at, and who changes it."""

    shop: Stockroom
    running: Running
    connection: asyncpg.Connection
    product: Product

    async def rename(self) -> None:
        await self.update(name="Other")

    async def move(self) -> None:
        await self.update(slug="elsewhere")

    async def reprice(self) -> None:
        await self.update(price=EUR_20)

    async def choose_default(self) -> None:
        await self.update(default_variant_id=self.product.variants[1].id)

    async def update(self, **fields: object) -> None:
        request = UpdateProductRequest(id=self.product.id)
        for name, value in fields.items():
            if isinstance(value, Money):
                getattr(request, name).CopyFrom(value)
            else:
                setattr(request, name, value)
        await self.shop.catalog.UpdateProduct(request, metadata=self.shop.staff())

    async def archive(self) -> None:
        request = DeleteProductRequest(id=self.product.id)
        await self.shop.catalog.DeleteProduct(request, metadata=self.shop.staff())

    async def add_variant(self) -> None:
        request = CreateVariantRequest(
            product_id=self.product.id, price=EUR_20, options={"size": "L"}
        )
        await self.shop.catalog.CreateVariant(request, metadata=self.shop.staff())

    async def change_variant(self) -> None:
        request = UpdateVariantRequest(
            product_id=self.product.id, id=self.product.variants[1].id, allow_backorder=True
        )
        await self.shop.catalog.UpdateVariant(request, metadata=self.shop.staff())

    async def remove_variant(self) -> None:
        request = DeleteVariantRequest(product_id=self.product.id, id=self.product.variants[1].id)
        await self.shop.catalog.DeleteVariant(request, metadata=self.shop.staff())

    async def restock(self) -> None:
        await self.shop.adjust(self.product.variants[0], 5)

    async def reserve(self) -> None:
        await self.shop.reserve(order(), (self.product.variants[1], 2))

    async def sell(self) -> None:
        id = order()
        await self.shop.reserve(id, (self.product.variants[1], 2))
        await seen(self.shop.catalog, self.product)
        await self.shop.commit(id)

    async def sell_late(self) -> None:
        """Paid when the reservation had run out: what is on hand goes, nothing was reserved."""
        id = await self.expired()
        await seen(self.shop.catalog, self.product)
        await self.shop.commit(id)

    async def release(self) -> None:
        id = order()
        await self.shop.reserve(id, (self.product.variants[1], 2))
        await seen(self.shop.catalog, self.product)
        await self.shop.release(id)

    async def take_back(self) -> None:
        id = order()
        await self.shop.reserve(id, (self.product.variants[1], 2))
        await self.shop.commit(id)
        await seen(self.shop.catalog, self.product)
        await self.shop.release(id, restock=True)

    async def expired(self) -> str:
        id = order()
        await self.shop.reserve(id, (self.product.variants[1], 2))
        await seen(self.shop.catalog, self.product)
        await self.connection.execute(
            "UPDATE catalog.reservations SET expire_time = now() - interval '1 second'"
            " WHERE order_id = $1",
            id,
        )
        assert await sweeper.free_expired(self.running.database) == 1
        return id


CHANGES: dict[str, Callable[[Scene], Awaitable[object]]] = {
    name: getattr(Scene, name)
    for name in (
        "rename",
        "move",
        "reprice",
        "choose_default",
        "archive",
        "add_variant",
        "change_variant",
        "remove_variant",
        "restock",
        "reserve",
        "sell",
        "sell_late",
        "release",
        "take_back",
        "expired",
    )
}


@pytest.fixture
async def scene(shop: Stockroom, served: Running, owner_connection: asyncpg.Connection) -> Scene:
    variants = [NewVariant(price=EUR_10, stock=5, options={"size": size}) for size in ("S", "M")]
    product = await shop.product(*variants, slug=f"thing-{order()}")
    return Scene(shop, served, owner_connection, product)


async def test_what_is_known_costs_no_statement(scene: Scene) -> None:
    product = scene.product
    first = await seen(scene.shop.catalog, product)
    async with scene.running.counting() as statements:
        for id in (product.id, product.slug):
            assert await scene.shop.catalog.GetProduct(GetProductRequest(id=id)) == first[0]
    assert statements == []


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_is_seen_at_once(scene: Scene, change: str) -> None:
    before = await seen(scene.shop.catalog, scene.product)
    assert before == [await true(scene.shop, scene.product)] * 3
    await CHANGES[change](scene)
    after = await true(scene.shop, scene.product)
    listed = 1 if after.state == Product.ACTIVE else 0
    assert await seen(scene.shop.catalog, scene.product) == [after] * (2 + listed)


async def test_a_draft_does_not_stay_on_the_shelf(scene: Scene) -> None:
    await seen(scene.shop.catalog, scene.product)
    await scene.update(state=Product.DRAFT)
    for id in (scene.product.id, scene.product.slug):
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await scene.shop.catalog.GetProduct(GetProductRequest(id=id))
    await scene.update(state=Product.ACTIVE)
    assert (
        await seen(scene.shop.catalog, scene.product) == [await true(scene.shop, scene.product)] * 3
    )


async def test_a_slug_leads_to_who_has_it_now(scene: Scene) -> None:
    slug = scene.product.slug
    await seen(scene.shop.catalog, scene.product)
    await scene.move()
    heir = await scene.shop.product(price=EUR_10, slug=slug)
    assert (await scene.shop.catalog.GetProduct(GetProductRequest(id=slug))).id == heir.id


async def test_staff_are_not_answered_from_it_and_put_nothing_on_it(scene: Scene) -> None:
    request = GetProductRequest(id=scene.product.id)
    seen_by_staff = await scene.shop.catalog.GetProduct(request, metadata=scene.shop.staff())
    assert seen_by_staff.variants[0].on_hand == 5
    in_public = await scene.shop.catalog.GetProduct(request)
    assert not in_public.variants[0].HasField("on_hand")
    again = await scene.shop.catalog.GetProduct(request, metadata=scene.shop.staff())
    assert again == seen_by_staff


# --- Several processes --------------------------------------------------------------------------


@dataclass
class Process:
    """One of several processes of the catalogue, with what it does in the background."""

    catalog: CatalogServiceStub
    stock: StockServiceStub
    statements: list[str]


@asynccontextmanager
async def process(url: str) -> AsyncIterator[Process]:
    work: list[asyncio.Task[None]] = []

    def servicers(database: Database) -> list[tuple[object, object]]:
        products = handlers.CatalogService(database)
        work.append(asyncio.ensure_future(products.shelf.forever()))
        return [
            (catalog_pb2_grpc.add_CatalogServiceServicer_to_server, products),
            (stock_pb2_grpc.add_StockServiceServicer_to_server, StockService(database)),
        ]

    async with running.serving(url, metadata, servicers) as one:  # type: ignore[arg-type]
        yield Process(
            CatalogServiceStub(one.channel), StockServiceStub(one.channel), one.statements
        )
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


@pytest.fixture
def lasting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries live for long: what is seen is seen because it was told."""
    monkeypatch.setattr(shelf, "SECONDS", 3600.0)


@pytest.fixture
async def two(
    database_url: Callable[[str], str], empty_database: None
) -> AsyncIterator[tuple[Process, Process]]:
    async with process(database_url("catalog")) as one, process(database_url("catalog")) as other:
        yield one, other


async def agrees(process: Process, shop: Stockroom, product: Product) -> bool:
    return await seen(process.catalog, product) == [await true(shop, product)] * 3


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> float:
    """Wait for it; how long it took."""
    clock = asyncio.get_running_loop().time
    began = clock()
    while not await condition():
        assert clock() - began < seconds
        await asyncio.sleep(0.01)
    return clock() - began


async def test_other_processes_see_a_change_too(
    lasting: None, two: tuple[Process, Process], staff: User
) -> None:
    one, other = two
    shop = Stockroom(one.catalog, one.stock, staff)
    product = await shop.product(price=EUR_10, stock=5)
    assert await agrees(other, shop, product)
    await shop.adjust(product.variants[0], 3)
    await eventually(lambda: agrees(other, shop, product))
    await shop.reserve(order(), (product.variants[0], 1))
    await eventually(lambda: agrees(other, shop, product))


async def test_what_was_not_heard_is_over_in_its_time(
    two: tuple[Process, Process], staff: User, owner_connection: asyncpg.Connection
) -> None:
    """Somebody changes rows by hand: nobody is told, and the bound holds."""
    one, other = two
    shop = Stockroom(one.catalog, one.stock, staff)
    product = await shop.product(price=EUR_10, stock=5)
    assert await agrees(other, shop, product)
    await owner_connection.execute("UPDATE catalog.products SET name = 'By hand'")
    assert await eventually(lambda: agrees(other, shop, product)) < 25
    assert (await true(shop, product)).name == "By hand"


BY_HAND = {
    "product": "UPDATE catalog.products SET name = 'By hand'",
    "variant": "UPDATE catalog.variants SET price = 1234 WHERE id = $1",
    "stock": "UPDATE catalog.stock SET on_hand = 77 WHERE variant_id = $1",
}


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries live for a moment."""
    monkeypatch.setattr(shelf, "SECONDS", 1.0)


async def test_what_is_wanted_is_not_looked_up_again_and_again(
    brief: None, two: tuple[Process, Process], staff: User
) -> None:
    one, _ = two
    shop = Stockroom(one.catalog, one.stock, staff)
    product = await shop.product(price=EUR_10, stock=5)
    for key in (product.id, product.slug):
        await one.catalog.GetProduct(GetProductRequest(id=key))
    one.statements.clear()
    until = asyncio.get_running_loop().time() + 4
    while asyncio.get_running_loop().time() < until:
        for key in (product.id, product.slug):
            await one.catalog.GetProduct(GetProductRequest(id=key))
        await asyncio.sleep(0.02)
    texts = [text for text in one.statements if "catalog.products" in text]
    assert texts
    assert not [text for text in texts if "description" in text]


@pytest.mark.parametrize("table", BY_HAND)
async def test_what_is_written_by_hand_is_seen_in_time_however_much_it_is_wanted(
    table: str,
    brief: None,
    two: tuple[Process, Process],
    staff: User,
    owner_connection: asyncpg.Connection,
) -> None:
    one, other = two
    shop = Stockroom(one.catalog, one.stock, staff)
    variants = [NewVariant(price=EUR_10, stock=5, options={"size": size}) for size in ("S", "M")]
    product = await shop.product(*variants)
    assert await agrees(other, shop, product)
    statement = BY_HAND[table]
    arguments = [product.variants[1].id] if "$1" in statement else []
    await owner_connection.execute(statement, *arguments)
    assert await eventually(lambda: agrees(other, shop, product)) < 25


async def test_who_could_not_hear_for_a_while_forgets_everything(
    lasting: None,
    two: tuple[Process, Process],
    staff: User,
    owner_connection: asyncpg.Connection,
) -> None:
    one, other = two
    shop = Stockroom(one.catalog, one.stock, staff)
    product = await shop.product(price=EUR_10, stock=5)
    assert await agrees(other, shop, product)
    assert await owner_connection.fetchval(TERMINATE) >= 2
    await shop.adjust(product.variants[0], 3)
    await eventually(lambda: agrees(other, shop, product))
    await shop.adjust(product.variants[0], 1)
    await eventually(lambda: agrees(other, shop, product))


async def test_a_change_is_never_unseen_by_who_made_it_whatever_is_read_meanwhile(
    two: tuple[Process, Process], staff: User
) -> None:
    """Readers put products on the shelf all the time while stock moves in both processes."""
    shops = [Stockroom(process.catalog, process.stock, staff) for process in two]
    product = await shops[0].product(price=EUR_10, stock=10_000)
    variant = product.variants[0]
    stop = asyncio.Event()

    async def read(process: Process) -> None:
        while not stop.is_set():
            await process.catalog.GetProduct(GetProductRequest(id=product.id))

    async def sell(shop: Stockroom) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + SECONDS
        while clock() < until:
            await shop.reserve(order(), (variant, random.randint(1, 3)))
            after = await shop.catalog.GetProduct(GetProductRequest(id=product.id))
            on_hand, reserved = await shop.now(variant)
            # Others may have taken more between the two reads, and nobody gives anything back.
            assert after.available >= on_hand - reserved
            sold.append(after.available)

    sold: list[int] = []
    readers = [asyncio.ensure_future(read(process)) for process in two for _ in range(4)]
    mine: list[int] = []

    async def sell_alone(shop: Stockroom) -> None:
        """What one process sells by itself it sees at once, to the piece."""
        before = (await shop.catalog.GetProduct(GetProductRequest(id=product.id))).available
        for _ in range(20):
            await shop.reserve(order(), (variant, 1))
            before -= 1
            mine.append((await shop.catalog.GetProduct(GetProductRequest(id=product.id))).available)
            assert mine[-1] == before

    await sell_alone(shops[0])
    await asyncio.gather(*(sell(shop) for shop in shops))
    stop.set()
    await asyncio.gather(*readers)
    assert len(sold) > 2
    assert len(mine) == 20
    await eventually(lambda: agrees(two[0], shops[0], product))
    await eventually(lambda: agrees(two[1], shops[0], product))
