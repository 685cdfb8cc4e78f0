"""Products: made, read, changed and archived."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.money_pb2 import Money
from grpc import StatusCode

from services.kit.ids import uuid7
from shop.catalog.v1 import catalog_pb2
from shop.catalog.v1.catalog_pb2 import (
    CreateCategoryRequest,
    CreateProductRequest,
    DeleteProductRequest,
    GetProductRequest,
    Media,
    NewVariant,
    Product,
    UpdateProductRequest,
    Variant,
)
from shop.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from tests.callers import NOBODY, User
from tests.running import Running, refused

EUR_10 = Money(currency_code="EUR", units=10)


def usd(units: int, cents: int = 0) -> Money:
    return Money(currency_code="USD", units=units, nanos=cents * 10_000_000)


async def make(catalog: CatalogServiceStub, staff: User, **fields: Any) -> Product:
    if "variants" not in fields:
        fields = {"price": EUR_10, "stock": 3} | fields
    request = CreateProductRequest(**{"name": "Wool scarf"} | fields)
    return await catalog.CreateProduct(request, metadata=staff())


class TestCreateProduct:
    async def test_a_product_without_variants_gets_a_default_one(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        product = await make(
            catalog, staff, name="Crème brûlée, 2 pcs.", price=usd(12, 50), stock=7
        )
        assert product.slug == "creme-brulee-2-pcs"
        assert product.state == Product.ACTIVE
        assert product.price == usd(12, 50)
        assert product.available == 7
        assert product.inventory_status == Variant.IN_STOCK
        (variant,) = product.variants
        assert variant.id == product.default_variant_id
        assert variant.sku == product.sku != ""
        assert (variant.on_hand, variant.reserved, variant.available) == (7, 0, 7)
        assert UUID(product.id).version == 7

    async def test_every_field_comes_back_from_get(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        category = await catalog.CreateCategory(
            CreateCategoryRequest(name="Hats"), metadata=staff()
        )
        made = await make(
            catalog,
            staff,
            name="Hat",
            slug="the-hat",
            description="Felt.",
            state=Product.DRAFT,
            category_ids=[category.id],
            attributes={"material": "wool", "colour": "schwarz, „tief“"},
            media=[Media(url="https://example.com/hat.jpg", alt="A hat")],
            variants=[
                NewVariant(
                    sku="HAT-M",
                    options={"size": "M"},
                    price=usd(30),
                    compare_at_price=usd(40),
                    weight_grams=120,
                    allow_backorder=True,
                ),
                NewVariant(sku="HAT-L", options={"size": "L"}, price=usd(31), stock=2),
            ],
        )
        read = await catalog.GetProduct(GetProductRequest(id=made.id), metadata=staff())
        assert read == made
        assert read.attributes == {"material": "wool", "colour": "schwarz, „tief“"}
        assert [variant.sku for variant in read.variants] == ["HAT-M", "HAT-L"]
        assert read.compare_at_price == usd(40)
        assert read.inventory_status == Variant.LOW_STOCK
        assert read.variants[0].inventory_status == Variant.BACKORDER

    async def test_it_answers_where_the_product_is(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        call = catalog.CreateProduct(
            CreateProductRequest(name="Hat", price=EUR_10), metadata=staff()
        )
        product = await call
        metadata = dict(await call.initial_metadata())
        assert metadata["x-http-code"] == "201"
        assert metadata["location"] == f"/api/products/{product.id}/"

    async def test_the_stock_it_begins_with_is_in_the_ledger(
        self,
        catalog: CatalogServiceStub,
        staff: User,
        owner_connection: asyncpg.Connection,
    ) -> None:
        product = await make(catalog, staff, stock=7)
        rows = await owner_connection.fetch("SELECT * FROM catalog.stock_movements")
        assert [(str(row["variant_id"]), row["change"], row["on_hand"]) for row in rows] == [
            (product.default_variant_id, 7, 7)
        ]

    async def test_a_made_up_slug_avoids_one_that_is_taken(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        first, second = await make(catalog, staff), await make(catalog, staff)
        assert first.slug == "wool-scarf"
        assert second.slug.startswith("wool-scarf-")

    async def test_a_name_without_latin_letters_still_gets_a_slug(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        product = await make(catalog, staff, name="スカーフ")
        assert product.slug
        assert (await catalog.GetProduct(GetProductRequest(id=product.slug))).id == product.id

    async def test_a_given_slug_that_is_taken_is_refused(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        await make(catalog, staff, slug="scarf")
        with refused(StatusCode.ALREADY_EXISTS, "SLUG_TAKEN") as refusal:
            await make(catalog, staff, slug="scarf")
        assert "slug" in refusal[0].fields

    async def test_a_slug_like_an_id_is_refused(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            await make(catalog, staff, slug=str(uuid7()))
        assert "slug" in refusal[0].fields

    async def test_a_sku_that_is_taken_is_refused_and_nothing_is_stored(
        self, catalog: CatalogServiceStub, staff: User, owner_connection: asyncpg.Connection
    ) -> None:
        await make(catalog, staff, sku="A-1")
        with refused(StatusCode.ALREADY_EXISTS, "SKU_TAKEN"):
            await make(catalog, staff, sku="A-1")
        assert await owner_connection.fetchval("SELECT count(*) FROM catalog.products") == 1

    async def test_two_variants_with_the_same_options_are_refused(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        variants = [NewVariant(price=EUR_10, options={"size": "M"}) for _ in range(2)]
        with refused(StatusCode.ALREADY_EXISTS, "OPTIONS_TAKEN") as refusal:
            await make(catalog, staff, variants=variants)
        assert "variants[1].options" in refusal[0].fields

    async def test_prices_in_two_currencies_are_refused(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        variants = [
            NewVariant(price=EUR_10, options={"size": "M"}),
            NewVariant(price=usd(10), options={"size": "L"}),
        ]
        with refused(StatusCode.FAILED_PRECONDITION, "CURRENCY_MISMATCH") as refusal:
            await make(catalog, staff, variants=variants)
        assert refusal[0].metadata["currency_code"] == "EUR"

    async def test_a_category_that_does_not_exist_is_refused(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND") as refusal:
            await make(catalog, staff, category_ids=[str(uuid7())])
        assert refusal[0].metadata["resource"] == "category"

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"name": ""}, "name"),
            ({"name": "x" * 201}, "name"),
            ({"price": Money(currency_code="XXX", units=1)}, "price.currency_code"),
            ({"price": Money(currency_code="JPY", units=1, nanos=500_000_000)}, "price.nanos"),
            ({"price": Money(currency_code="EUR", units=-1)}, "price"),
            ({"compare_at_price": Money(currency_code="EUR", units=10)}, "compare_at_price"),
            ({"stock": -1}, "stock"),
            ({"name": "a\0b"}, "name"),
            ({"attributes": {"ok": "a\0b"}}, 'attributes["ok"]'),
            ({"media": [Media(url="javascript:alert(1)")]}, "media[0].url"),
        ],
    )
    async def test_what_is_wrong_is_named(
        self, catalog: CatalogServiceStub, staff: User, fields: dict[str, Any], field: str
    ) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            await make(catalog, staff, **fields)
        assert field in refusal[0].fields

    async def test_variants_and_price_exclude_each_other(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            await make(catalog, staff, variants=[NewVariant(price=EUR_10)], price=EUR_10)

    async def test_the_same_key_makes_one_product_and_answers_the_same(
        self, catalog: CatalogServiceStub, staff: User, owner_connection: asyncpg.Connection
    ) -> None:
        request = CreateProductRequest(name="Hat", price=EUR_10)

        async def create() -> tuple[Product, dict[str, Any]]:
            call = catalog.CreateProduct(request, metadata=staff(key="one"))
            return await call, dict(await call.initial_metadata())

        answers = await asyncio.gather(*(create() for _ in range(10)))
        assert len({product.id for product, _ in answers}) == 1
        assert {metadata["x-http-code"] for _, metadata in answers} == {"201"}
        assert {metadata["location"] for _, metadata in answers} == {
            f"/api/products/{answers[0][0].id}/"
        }
        assert await owner_connection.fetchval("SELECT count(*) FROM catalog.products") == 1

    async def test_the_same_key_for_another_product_is_refused(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        metadata = staff(key="one")
        await catalog.CreateProduct(
            CreateProductRequest(name="Hat", price=EUR_10), metadata=metadata
        )
        with refused(StatusCode.FAILED_PRECONDITION, "IDEMPOTENCY_KEY_REUSED"):
            await catalog.CreateProduct(
                CreateProductRequest(name="Cap", price=EUR_10), metadata=metadata
            )

    async def test_another_users_same_key_is_another_key(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        request = CreateProductRequest(name="Hat", price=EUR_10)
        first = await catalog.CreateProduct(request, metadata=staff(key="one"))
        second = await catalog.CreateProduct(request, metadata=User("STAFF")(key="one"))
        assert first.id != second.id

    @pytest.mark.parametrize(
        ("caller", "code", "reason"),
        [
            (NOBODY, StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"),
            (User("CUSTOMER")(), StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"),
        ],
    )
    async def test_it_is_for_staff(
        self, catalog: CatalogServiceStub, caller: Any, code: StatusCode, reason: str
    ) -> None:
        with refused(code, reason):
            await catalog.CreateProduct(CreateProductRequest(name="Hat"), metadata=caller)


class TestGetProduct:
    async def test_it_answers_by_id_and_by_slug_with_one_statement(
        self, catalog: CatalogServiceStub, staff: User, served: Running
    ) -> None:
        made = await make(catalog, staff)
        for id in (made.id, made.id.upper(), made.slug):
            async with served.counting() as statements:
                assert (await catalog.GetProduct(GetProductRequest(id=id))).id == made.id
            assert len(statements) == 1

    async def test_many_at_once_share_statements_and_each_gets_its_own(
        self,
        catalog: CatalogServiceStub,
        staff: User,
        served: Running,
        owner_connection: asyncpg.Connection,
    ) -> None:
        made = [await make(catalog, staff, name=f"Scarf {number}") for number in range(20)]
        asked = [key for product in made for key in (product.id, product.slug, str(uuid7()))]

        async def get(id: str) -> str:
            try:
                return (await catalog.GetProduct(GetProductRequest(id=id))).id
            except grpc.aio.AioRpcError as error:
                return error.code().name

        async with served.counting() as statements:
            # The first statements wait for a lock while the other calls come in.
            async with owner_connection.transaction():
                await owner_connection.execute("LOCK TABLE catalog.products")
                asking = asyncio.gather(*(get(id) for id in asked))
                await asyncio.sleep(0.3)
            answers = await asking
        assert answers == [
            answer for product in made for answer in (product.id, product.id, "NOT_FOUND")
        ]
        assert len(statements) < len(asked) / 2

    async def test_the_public_does_not_see_what_is_on_hand(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made = await make(catalog, staff, stock=4)
        for metadata in (NOBODY, User("CUSTOMER")()):
            seen = await catalog.GetProduct(GetProductRequest(id=made.id), metadata=metadata)
            assert seen.available == 4
            assert not seen.variants[0].HasField("on_hand")
            assert not seen.variants[0].HasField("reserved")

    async def test_drafts_do_not_exist_for_the_public(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made = await make(catalog, staff, state=Product.DRAFT)
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await catalog.GetProduct(GetProductRequest(id=made.id))
        assert await catalog.GetProduct(GetProductRequest(id=made.id), metadata=staff()) == made

    @pytest.mark.parametrize("id", [str(uuid7()), "no-such-slug"], ids=["id", "slug"])
    async def test_what_does_not_exist_is_not_found(
        self, catalog: CatalogServiceStub, id: str
    ) -> None:
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND") as refusal:
            await catalog.GetProduct(GetProductRequest(id=id))
        assert refusal[0].metadata == {"resource": "product", "id": id}

    async def test_a_bad_token_is_refused_even_here(self, catalog: CatalogServiceStub) -> None:
        with refused(StatusCode.UNAUTHENTICATED, "TOKEN_INVALID"):
            await catalog.GetProduct(
                GetProductRequest(id="x"), metadata=(("authorization", "Bearer rubbish"),)
            )


class TestUpdateProduct:
    async def test_the_fields_that_are_set_change_and_the_others_stay(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made = await make(catalog, staff, attributes={"a": "1"}, description="Old")
        changed = await catalog.UpdateProduct(
            UpdateProductRequest(id=made.id, name="New", price=usd(11)), metadata=staff()
        )
        assert changed.name == "New"
        assert changed.price == changed.variants[0].price == usd(11)
        assert changed.description == "Old"
        assert changed.attributes == {"a": "1"}
        assert changed.etag != made.etag
        assert changed.update_time.ToNanoseconds() > made.update_time.ToNanoseconds()
        assert changed.create_time == made.create_time
        assert await catalog.GetProduct(GetProductRequest(id=made.id), metadata=staff()) == changed

    async def test_a_mask_clears_what_the_request_leaves_out(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made = await make(
            catalog,
            staff,
            attributes={"a": "1"},
            compare_at_price=Money(currency_code="EUR", units=20),
        )
        changed = await catalog.UpdateProduct(
            UpdateProductRequest(
                id=made.id,
                name="not in the mask",
                update_mask=FieldMask(paths=["attributes", "compare_at_price"]),
            ),
            metadata=staff(),
        )
        assert changed.name == made.name
        assert not changed.attributes
        assert not changed.HasField("compare_at_price")

    async def test_the_star_replaces_everything(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made = await make(catalog, staff, description="Old", attributes={"a": "1"})
        changed = await catalog.UpdateProduct(
            UpdateProductRequest(
                id=made.id,
                name="New",
                slug="new",
                state=Product.ACTIVE,
                default_variant_id=made.default_variant_id,
                sku="NEW",
                price=EUR_10,
                update_mask=FieldMask(paths=["*"]),
            ),
            metadata=staff(),
        )
        assert (changed.name, changed.slug, changed.sku) == ("New", "new", "NEW")
        assert changed.description == ""
        assert not changed.attributes

    async def test_the_star_does_not_clear_what_a_product_needs(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made = await make(catalog, staff)
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            await catalog.UpdateProduct(
                UpdateProductRequest(id=made.id, name="New", update_mask=FieldMask(paths=["*"])),
                metadata=staff(),
            )
        assert {"slug", "state", "sku", "price", "default_variant_id"} <= refusal[0].fields.keys()

    @pytest.mark.parametrize("path", ["id", "available", "nonsense", "variants"])
    async def test_a_mask_of_other_fields_is_refused(
        self, catalog: CatalogServiceStub, staff: User, path: str
    ) -> None:
        made = await make(catalog, staff)
        with refused(StatusCode.INVALID_ARGUMENT, "UNKNOWN_FIELD_IN_MASK"):
            await catalog.UpdateProduct(
                UpdateProductRequest(id=made.id, update_mask=FieldMask(paths=[path])),
                metadata=staff(),
            )

    async def test_a_stale_etag_aborts_and_changes_nothing(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made = await make(catalog, staff)
        update = UpdateProductRequest(id=made.id, name="Mine", etag=made.etag)
        mine = await catalog.UpdateProduct(update, metadata=staff())
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH") as refusal:
            await catalog.UpdateProduct(
                UpdateProductRequest(id=made.id, name="Yours", etag=made.etag), metadata=staff()
            )
        assert refusal[0].metadata["etag"] == mine.etag
        assert await catalog.GetProduct(GetProductRequest(id=made.id), metadata=staff()) == mine

    async def test_of_parallel_updates_with_one_etag_one_wins(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made = await make(catalog, staff)

        async def rename(number: int) -> str:
            try:
                await catalog.UpdateProduct(
                    UpdateProductRequest(id=made.id, name=f"Name {number}", etag=made.etag),
                    metadata=staff(),
                )
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        outcomes = await asyncio.gather(*(rename(number) for number in range(8)))
        assert sorted(outcomes) == ["ABORTED"] * 7 + ["OK"]

    async def test_another_variant_can_become_the_default(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made = await make(
            catalog,
            staff,
            variants=[
                NewVariant(sku="M", options={"size": "M"}, price=usd(30), stock=1),
                NewVariant(sku="L", options={"size": "L"}, price=usd(40), stock=9),
            ],
        )
        changed = await catalog.UpdateProduct(
            UpdateProductRequest(id=made.id, default_variant_id=made.variants[1].id),
            metadata=staff(),
        )
        assert (changed.sku, changed.price, changed.available) == ("L", usd(40), 9)
        assert [variant.sku for variant in changed.variants] == ["L", "M"]

    async def test_a_variant_of_another_product_cannot_become_the_default(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made, other = await make(catalog, staff), await make(catalog, staff)
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND") as refusal:
            await catalog.UpdateProduct(
                UpdateProductRequest(id=made.id, default_variant_id=other.default_variant_id),
                metadata=staff(),
            )
        assert refusal[0].metadata["resource"] == "variant"

    @pytest.mark.parametrize(
        ("fields", "code", "reason"),
        [
            ({"slug": "taken"}, StatusCode.ALREADY_EXISTS, "SLUG_TAKEN"),
            ({"sku": "TAKEN"}, StatusCode.ALREADY_EXISTS, "SKU_TAKEN"),
            ({"category_ids": [str(uuid7())]}, StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"),
        ],
    )
    async def test_what_clashes_is_refused_and_changes_nothing(
        self,
        catalog: CatalogServiceStub,
        staff: User,
        fields: dict[str, Any],
        code: StatusCode,
        reason: str,
    ) -> None:
        await make(catalog, staff, slug="taken", sku="TAKEN")
        made = await make(catalog, staff)
        with refused(code, reason):
            await catalog.UpdateProduct(
                UpdateProductRequest(id=made.id, name="New", **fields), metadata=staff()
            )
        assert await catalog.GetProduct(GetProductRequest(id=made.id), metadata=staff()) == made

    async def test_one_variant_of_several_cannot_change_its_currency(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made = await make(
            catalog,
            staff,
            variants=[
                NewVariant(options={"size": "M"}, price=usd(30)),
                NewVariant(options={"size": "L"}, price=usd(40)),
            ],
        )
        with refused(StatusCode.FAILED_PRECONDITION, "CURRENCY_MISMATCH"):
            await catalog.UpdateProduct(
                UpdateProductRequest(id=made.id, price=EUR_10), metadata=staff()
            )

    async def test_the_only_variant_can_change_its_currency(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made = await make(catalog, staff)
        changed = await catalog.UpdateProduct(
            UpdateProductRequest(id=made.id, price=Money(currency_code="JPY", units=1500)),
            metadata=staff(),
        )
        assert changed.price == Money(currency_code="JPY", units=1500)

    async def test_what_does_not_exist_is_not_found(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await catalog.UpdateProduct(
                UpdateProductRequest(id=str(uuid7()), name="New"), metadata=staff()
            )

    async def test_it_takes_a_fixed_number_of_statements(
        self, catalog: CatalogServiceStub, staff: User, served: Running
    ) -> None:
        made = await make(catalog, staff)
        async with served.counting() as statements:
            await catalog.UpdateProduct(
                UpdateProductRequest(id=made.id, name="New"), metadata=staff()
            )
        assert len(statements) == 3
        async with served.counting() as statements:
            await catalog.UpdateProduct(
                UpdateProductRequest(id=made.id, price=usd(9)), metadata=staff()
            )
        assert len(statements) == 6


class TestDeleteProduct:
    async def test_it_archives(self, catalog: CatalogServiceStub, staff: User) -> None:
        made = await make(catalog, staff)
        gone = await catalog.DeleteProduct(DeleteProductRequest(id=made.id), metadata=staff())
        assert gone.state == Product.ARCHIVED
        seen = await catalog.GetProduct(GetProductRequest(id=made.id))
        assert seen.state == Product.ARCHIVED
        listed = await catalog.ListProducts(catalog_pb2.ListProductsRequest())
        assert not listed.products

    async def test_archiving_twice_changes_nothing(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made = await make(catalog, staff)
        first = await catalog.DeleteProduct(DeleteProductRequest(id=made.id), metadata=staff())
        assert (
            await catalog.DeleteProduct(DeleteProductRequest(id=made.id), metadata=staff()) == first
        )

    async def test_an_archived_product_can_come_back(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made = await make(catalog, staff)
        await catalog.DeleteProduct(DeleteProductRequest(id=made.id), metadata=staff())
        back = await catalog.UpdateProduct(
            UpdateProductRequest(id=made.id, state=Product.ACTIVE), metadata=staff()
        )
        assert back.state == Product.ACTIVE

    async def test_a_stale_etag_aborts(self, catalog: CatalogServiceStub, staff: User) -> None:
        made = await make(catalog, staff)
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
            await catalog.DeleteProduct(
                DeleteProductRequest(id=made.id, etag="v99"), metadata=staff()
            )
        assert (await catalog.GetProduct(GetProductRequest(id=made.id))).state == Product.ACTIVE

    async def test_what_does_not_exist_is_not_found(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await catalog.DeleteProduct(DeleteProductRequest(id=str(uuid7())), metadata=staff())
