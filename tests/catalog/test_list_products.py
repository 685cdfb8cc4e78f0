"""ListProducts: orders, filters and pages."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from google.type.money_pb2 import Money
from grpc import StatusCode

from cli import catalogue, seed
from cli.database import Databases
from services.catalog import search
from services.kit.ids import uuid7
from shop.catalog.v1.catalog_pb2 import (
    CreateCategoryRequest,
    CreateProductRequest,
    DeleteProductRequest,
    ListProductsRequest,
    ListProductsResponse,
    NewVariant,
    Product,
    UpdateProductRequest,
    Variant,
)
from shop.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from tests.callers import User
from tests.running import Running, refused

ORDERS: dict[str, tuple[Callable[[Product], Any], bool]] = {
    "newest": (lambda product: product.id, True),
    "price": (lambda product: (minor(product), product.id), False),
    "-price": (lambda product: (minor(product), product.id), True),
    "name": (lambda product: (product.name.lower()[:100], product.id), False),
}


def minor(product: Product) -> int:
    return int(product.price.units * 100 + product.price.nanos // 10_000_000)


def eur(units: int) -> Money:
    return Money(currency_code="EUR", units=units)


async def make(catalog: CatalogServiceStub, staff: User, name: str, **fields: Any) -> Product:
    if "variants" not in fields:
        fields = {"price": eur(10), "stock": 3} | fields
    return await catalog.CreateProduct(CreateProductRequest(name=name, **fields), metadata=staff())


async def everything(catalog: CatalogServiceStub, **wanted: Any) -> list[Product]:
    """The products of all pages."""
    request = ListProductsRequest(**wanted)
    found: list[Product] = []
    while True:
        answer = await catalog.ListProducts(request)
        found += answer.products
        if not answer.next_page_token:
            return found
        assert len(answer.next_page_token) <= 1024
        request.page_token = answer.next_page_token


async def names(catalog: CatalogServiceStub, **wanted: Any) -> list[str]:
    return [product.name for product in await everything(catalog, **wanted)]


async def load(databases: Databases, count: int, chosen_seed: str = "s") -> None:
    await seed.load(databases.services["catalog"], catalogue.made_up_items(count, chosen_seed))


@pytest.fixture(params=[search.REACH, 7], ids=["found at once", "found by index"])
def reach(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With little reach, what is filtered is soon looked for in the inverted indexes."""
    monkeypatch.setattr(search, "REACH", request.param)
    monkeypatch.setattr(search, "REACH_EACH", 0)


class TestOrders:
    @pytest.mark.parametrize("order", ORDERS)
    async def test_pages_hold_each_product_once_and_in_order(
        self, catalog: CatalogServiceStub, databases: Databases, order: str
    ) -> None:
        await load(databases, 70)
        found = await everything(catalog, order_by=order, page_size=9)
        key, backwards = ORDERS[order]
        assert len({product.id for product in found}) == 70
        assert found == sorted(found, key=key, reverse=backwards)

    async def test_equals_are_in_one_order_on_all_pages(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made = [(await make(catalog, staff, "Same")).id for _ in range(5)]
        for order in ("price", "name"):
            listed = await everything(catalog, order_by=order, page_size=2)
            assert [product.id for product in listed] == made

    async def test_a_product_that_comes_between_two_pages_moves_nothing(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        for name in "abcd":
            await make(catalog, staff, name)
        first = await catalog.ListProducts(ListProductsRequest(page_size=2))
        await make(catalog, staff, "new")
        second = await catalog.ListProducts(
            ListProductsRequest(page_size=2, page_token=first.next_page_token)
        )
        assert [item.name for item in (*first.products, *second.products)] == list("dcba")
        assert not second.next_page_token

    async def test_a_page_is_fifty_unless_said_otherwise(
        self, catalog: CatalogServiceStub, databases: Databases
    ) -> None:
        await load(databases, 60)
        answer = await catalog.ListProducts(ListProductsRequest())
        assert len(answer.products) == 50
        assert answer.next_page_token

    async def test_the_longest_names_fit_into_a_token(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        for index in range(3):
            await make(catalog, staff, "😀" * 199 + str(index), sku=f"LONG{index}")
        assert len(await everything(catalog, order_by="name", page_size=1)) == 3
        assert len(await everything(catalog, q="1", order_by="name", page_size=1)) == 1


class TestTokens:
    async def test_a_token_of_other_filters_is_refused(
        self, catalog: CatalogServiceStub, databases: Databases
    ) -> None:
        await load(databases, 3)
        answer = await catalog.ListProducts(ListProductsRequest(page_size=1, in_stock=True))
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"):
            await catalog.ListProducts(ListProductsRequest(page_token=answer.next_page_token))

    @pytest.mark.parametrize("order", [*ORDERS, "relevance"])
    async def test_made_up_keys_are_refused(
        self, catalog: CatalogServiceStub, databases: Databases, order: str
    ) -> None:
        await load(databases, 30)
        request = ListProductsRequest(page_size=1, order_by=order, q="made")
        answer = await catalog.ListProducts(request)
        token = answer.next_page_token + "=" * (-len(answer.next_page_token) % 4)
        fingerprint, *key = json.loads(base64.urlsafe_b64decode(token))
        for wrong in ([], [*key, 1], [None] * len(key), ["\0"] * len(key), [10**30] * len(key)):
            raw = base64.urlsafe_b64encode(json.dumps([fingerprint, *wrong]).encode())
            request.page_token = raw.decode().rstrip("=")
            with refused(StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"):
                await catalog.ListProducts(request)


@pytest.mark.usefixtures("reach")
class TestFilters:
    async def test_any_filters_together_find_what_fulfils_all(
        self, catalog: CatalogServiceStub, databases: Databases
    ) -> None:
        await load(databases, 400)
        listed = await everything(catalog, page_size=1000)
        assert len(listed) == 400
        luck = random.Random(2)
        for _ in range(60):
            like = luck.choice(listed)
            order = luck.choice(list(ORDERS))
            wanted: dict[str, Any] = {}
            if luck.random() < 0.4:
                wanted["category_id"] = like.category_ids[0]
            if luck.random() < 0.3:
                wanted["min_price"] = minor(like) - luck.randrange(2000)
                wanted["min_price"] = max(wanted["min_price"], 0)
            if luck.random() < 0.3:
                wanted["max_price"] = minor(like) + luck.randrange(5000)
            if luck.random() < 0.3:
                wanted["in_stock"] = True
            if luck.random() < 0.2:
                wanted["currency_code"] = luck.choice(["USD", "JPY"])
            if luck.random() < 0.4:
                pairs = luck.sample(sorted(like.attributes.items()), luck.randrange(1, 3))
                wanted["attributes"] = [f"{key}={value}" for key, value in pairs]
            if luck.random() < 0.4:
                wanted["q"] = luck.choice(like.description.split()).strip(".,")
            found = await everything(catalog, order_by=order, page_size=7, **wanted)
            key, backwards = ORDERS[order]
            expected = [product for product in listed if fulfils(product, wanted)]
            assert found == sorted(expected, key=key, reverse=backwards), (order, wanted)
            if "q" in wanted:
                ranked = await everything(catalog, page_size=7, **wanted)
                assert sorted(item.id for item in ranked) == sorted(item.id for item in expected)

    async def test_a_category_with_those_below_holds_each_product_once(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        async def category(name: str, parent: str = "") -> str:
            request = CreateCategoryRequest(name=name, parent_id=parent)
            return (await catalog.CreateCategory(request, metadata=staff())).id

        home = await category("Home")
        light, lamps = await category("Light", home), await category("Lamps", home)
        desk = await category("Desk lamps", lamps)
        await make(catalog, staff, "elsewhere", category_ids=[await category("Garden")])
        await make(catalog, staff, "lamp", category_ids=[light, lamps, desk])
        chair = await make(catalog, staff, "chair", category_ids=[home], price=eur(5))
        for filters in ({}, {"in_stock": True}):
            for order, expected in (("", ["chair", "lamp"]), ("-price", ["lamp", "chair"])):
                found = await names(catalog, category_id=home, order_by=order, **filters)
                assert found == expected
        assert await names(catalog, category_id=lamps) == ["lamp"]
        assert await names(catalog, category_id=str(uuid7())) == []
        changed = UpdateProductRequest(id=chair.id, category_ids=[desk], price=eur(50))
        await catalog.UpdateProduct(changed, metadata=staff())
        assert await names(catalog, category_id=lamps, order_by="-price") == ["chair", "lamp"]
        await catalog.DeleteProduct(DeleteProductRequest(id=chair.id), metadata=staff())
        assert await names(catalog, category_id=home) == ["lamp"]

    async def test_in_stock_means_that_some_variant_can_be_bought(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        def variant(size: str, **fields: Any) -> NewVariant:
            return NewVariant(options={"size": size}, price=eur(9), **fields)

        await make(catalog, staff, "none", variants=[variant("S"), variant("M")])
        await make(catalog, staff, "second", variants=[variant("S"), variant("M", stock=1)])
        await make(catalog, staff, "later", variants=[variant("S", allow_backorder=True)])
        assert await names(catalog, in_stock=True) == ["later", "second"]
        assert await names(catalog) == ["later", "second", "none"]

    async def test_attributes_are_compared_as_they_are(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        await make(catalog, staff, "odd", attributes={"note": "a=b, \"c\" {d} 'e'", "size": "1"})
        await make(catalog, staff, "even", attributes={"note": "a", "size": "1"})
        assert await names(catalog, attributes=["note=a=b, \"c\" {d} 'e'"]) == ["odd"]
        assert await names(catalog, attributes=["size=1"]) == ["even", "odd"]
        assert await names(catalog, attributes=["size=1", "size=1", "note=a"]) == ["even"]
        assert await names(catalog, attributes=["size=1", "size=2"]) == []

    async def test_prices_are_limits_that_count_too(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        for price in (1, 2, 3, 4):
            await make(catalog, staff, f"{price}", price=eur(price))
        for order, expected in (
            ("price", ["2", "3"]),
            ("-price", ["3", "2"]),
            ("name", ["2", "3"]),
        ):
            for size in (1, 50):
                wanted = {"min_price": 200, "max_price": 300, "page_size": size}
                assert await names(catalog, order_by=order, **wanted) == expected
        assert await names(catalog, min_price=300, order_by="-price") == ["4", "3"]
        assert await names(catalog, max_price=0, order_by="price") == []
        assert await names(catalog, min_price=300, max_price=200) == []


def fulfils(product: Product, wanted: dict[str, Any]) -> bool:
    """The filters of a request, told once more."""
    pairs = {f"{key}={value}" for key, value in product.attributes.items()}
    text = f"{product.name} {product.description} {' '.join(v.sku for v in product.variants)}"
    words = "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()
    buyable = (Variant.IN_STOCK, Variant.LOW_STOCK, Variant.BACKORDER)
    return (
        wanted.get("category_id", product.category_ids[0]) in product.category_ids
        and wanted.get("min_price", 0) <= minor(product) <= wanted.get("max_price", 2**62)
        and (not wanted.get("in_stock") or product.inventory_status in buyable)
        and wanted.get("currency_code", product.price.currency_code) == product.price.currency_code
        and set(wanted.get("attributes", ())) <= pairs
        and (
            "q" not in wanted
            or all(
                any(word.startswith(part) if last else word == part for word in words)
                for part, last in looked_for(wanted["q"])
            )
        )
    )


def looked_for(q: str) -> list[tuple[str, bool]]:
    """The words of a search, and whether each may be the beginning of one."""
    parts = "".join(letter if letter.isalnum() else " " for letter in q.lower()).split()
    return [(part, part == parts[-1]) for part in parts]


class TestStates:
    async def test_only_active_products_are_listed(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        await make(catalog, staff, "draft", state=Product.DRAFT)
        await make(catalog, staff, "active")
        assert await names(catalog) == ["active"]
        drafts = await catalog.ListProducts(
            ListProductsRequest(state=Product.DRAFT), metadata=staff()
        )
        assert [product.name for product in drafts.products] == ["draft"]

    async def test_other_states_are_for_staff(
        self, catalog: CatalogServiceStub, customer: User
    ) -> None:
        for metadata in ((), customer()):
            with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"):
                await catalog.ListProducts(
                    ListProductsRequest(state=Product.ARCHIVED), metadata=metadata
                )


class TestCost:
    async def test_a_page_takes_as_many_statements_in_any_catalogue(
        self, served: Running, catalog: CatalogServiceStub, databases: Databases, staff: User
    ) -> None:
        wanted = {
            "plain": ListProductsRequest(page_size=20),
            "filtered": ListProductsRequest(in_stock=True, attributes=["colour=navy"]),
            "searched": ListProductsRequest(page_size=20, q="steel made"),
            "sparse": ListProductsRequest(page_size=20, q="xyzzy", min_price=10, order_by="name"),
        }

        def own(statements: list[str]) -> int:
            """Without those by which a new connection learns of types, and the server of health."""
            return sum(" catalog." in text or "(catalog." in text for text in statements)

        async def count(metadata: Any) -> dict[str, int]:
            plain = await catalog.ListProducts(wanted["plain"], metadata=metadata)
            category = ListProductsRequest(
                category_id=plain.products[0].category_ids[0], q="made", page_size=20
            )
            counts = {}
            for name, request in {**wanted, "category, searched": category}.items():
                await catalog.ListProducts(request, metadata=metadata)
                async with served.counting() as statements:
                    answer: ListProductsResponse = await catalog.ListProducts(
                        request, metadata=metadata
                    )
                assert name == "sparse" or len(answer.products) > 0
                counts[name] = own(statements)
            return counts

        await load(databases, 100, "few")
        few = await count(staff()), await count(())
        await load(databases, 1900, "many")
        assert (await count(staff()), await count(())) == few
        # Which products, and what they are: the public is told the latter from the shelf.
        public = {"plain": 1, "filtered": 1, "searched": 2, "sparse": 2, "category, searched": 3}
        assert few == ({name: number + 1 for name, number in public.items()}, public)
