"""Variants: added to a product, changed, taken out."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.money_pb2 import Money
from grpc import StatusCode

from services.catalog import rules
from services.kit.ids import uuid7
from shop.catalog.v1.catalog_pb2 import (
    CreateProductRequest,
    CreateVariantRequest,
    DeleteVariantRequest,
    GetProductRequest,
    ListProductsRequest,
    NewVariant,
    Product,
    UpdateVariantRequest,
    Variant,
)
from shop.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from tests.callers import User
from tests.running import Running, refused

EUR_10 = Money(currency_code="EUR", units=10)
EUR_20 = Money(currency_code="EUR", units=20)


@pytest.fixture
async def shirt(catalog: CatalogServiceStub, staff: User) -> Product:
    """A product in two sizes."""
    sizes = [
        NewVariant(sku=f"SHIRT-{size}", options={"size": size}, price=EUR_10, stock=4)
        for size in ("M", "L")
    ]
    return await catalog.CreateProduct(
        CreateProductRequest(name="Shirt", variants=sizes), metadata=staff()
    )


async def read(catalog: CatalogServiceStub, product: Product, staff: User) -> Product:
    return await catalog.GetProduct(GetProductRequest(id=product.id), metadata=staff())


class TestCreateVariant:
    async def test_it_joins_the_product(
        self, catalog: CatalogServiceStub, staff: User, shirt: Product
    ) -> None:
        call = catalog.CreateVariant(
            CreateVariantRequest(
                product_id=shirt.id, options={"size": "S"}, price=EUR_20, stock=6, weight_grams=200
            ),
            metadata=staff(),
        )
        variant = await call
        location = dict(await call.initial_metadata())["location"]
        assert location == f"/api/products/{shirt.id}/variants/{variant.id}/"
        product = await read(catalog, shirt, staff)
        assert product.variants[2] == variant
        assert variant.available == 6
        assert variant.sku
        assert product.etag != shirt.etag

    async def test_the_product_is_found_by_its_sku(
        self, catalog: CatalogServiceStub, staff: User, shirt: Product
    ) -> None:
        await catalog.CreateVariant(
            CreateVariantRequest(product_id=shirt.id, sku="UNHEARD-OF", price=EUR_20),
            metadata=staff(),
        )
        found = await catalog.ListProducts(ListProductsRequest(q="unheard-of"))
        assert [product.id for product in found.products] == [shirt.id]

    @pytest.mark.parametrize(
        ("fields", "code", "reason"),
        [
            ({"sku": "SHIRT-M"}, StatusCode.ALREADY_EXISTS, "SKU_TAKEN"),
            ({"options": {"size": "M"}}, StatusCode.ALREADY_EXISTS, "OPTIONS_TAKEN"),
            (
                {"price": Money(currency_code="USD", units=1)},
                StatusCode.FAILED_PRECONDITION,
                "CURRENCY_MISMATCH",
            ),
            ({"product_id": str(uuid7())}, StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"),
        ],
    )
    async def test_what_clashes_is_refused_and_changes_nothing(
        self,
        catalog: CatalogServiceStub,
        staff: User,
        shirt: Product,
        fields: dict[str, Any],
        code: StatusCode,
        reason: str,
    ) -> None:
        request = {"product_id": shirt.id, "price": EUR_10, "options": {"size": "S"}} | fields
        with refused(code, reason):
            await catalog.CreateVariant(CreateVariantRequest(**request), metadata=staff())
        assert await read(catalog, shirt, staff) == shirt

    async def test_a_product_has_at_most_100_also_in_parallel(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        many = [
            NewVariant(options={"number": str(number)}, price=EUR_10)
            for number in range(rules.MOST_VARIANTS - 1)
        ]
        product = await catalog.CreateProduct(
            CreateProductRequest(name="Many", variants=many), metadata=staff()
        )

        async def add(number: int) -> str:
            try:
                await catalog.CreateVariant(
                    CreateVariantRequest(
                        product_id=product.id, options={"extra": str(number)}, price=EUR_10
                    ),
                    metadata=staff(),
                )
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        outcomes = await asyncio.gather(*(add(number) for number in range(4)))
        assert sorted(outcomes) == ["FAILED_PRECONDITION"] * 3 + ["OK"]
        assert len((await read(catalog, product, staff)).variants) == rules.MOST_VARIANTS


class TestUpdateVariant:
    async def test_the_fields_that_are_set_change_and_the_others_stay(
        self, catalog: CatalogServiceStub, staff: User, shirt: Product
    ) -> None:
        before = shirt.variants[1]
        after = await catalog.UpdateVariant(
            UpdateVariantRequest(
                product_id=shirt.id, id=before.id, price=EUR_20, allow_backorder=True
            ),
            metadata=staff(),
        )
        assert after.price == EUR_20
        assert after.allow_backorder
        assert (after.sku, dict(after.options), after.available) == ("SHIRT-L", {"size": "L"}, 4)
        assert after.etag != before.etag
        assert (await read(catalog, shirt, staff)).variants[1] == after

    async def test_the_products_price_follows_its_default_variant(
        self, catalog: CatalogServiceStub, staff: User, shirt: Product
    ) -> None:
        await catalog.UpdateVariant(
            UpdateVariantRequest(product_id=shirt.id, id=shirt.default_variant_id, price=EUR_20),
            metadata=staff(),
        )
        assert (await read(catalog, shirt, staff)).price == EUR_20
        dear = await catalog.ListProducts(ListProductsRequest(min_price=1500))
        assert [product.id for product in dear.products] == [shirt.id]

    async def test_a_mask_clears_what_the_request_leaves_out(
        self, catalog: CatalogServiceStub, staff: User, shirt: Product
    ) -> None:
        after = await catalog.UpdateVariant(
            UpdateVariantRequest(
                product_id=shirt.id,
                id=shirt.variants[0].id,
                update_mask=FieldMask(paths=["options"]),
            ),
            metadata=staff(),
        )
        assert not after.options
        assert after.price == EUR_10

    @pytest.mark.parametrize(
        ("fields", "code", "reason"),
        [
            ({"sku": "SHIRT-M"}, StatusCode.ALREADY_EXISTS, "SKU_TAKEN"),
            ({"options": {"size": "M"}}, StatusCode.ALREADY_EXISTS, "OPTIONS_TAKEN"),
            (
                {"price": Money(currency_code="USD", units=1)},
                StatusCode.FAILED_PRECONDITION,
                "CURRENCY_MISMATCH",
            ),
            ({"compare_at_price": EUR_10}, StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"),
            ({"etag": "v7"}, StatusCode.ABORTED, "ETAG_MISMATCH"),
            ({"product_id": str(uuid7())}, StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"),
            ({"id": str(uuid7())}, StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"),
            (
                {"update_mask": FieldMask(paths=["on_hand"])},
                StatusCode.INVALID_ARGUMENT,
                "UNKNOWN_FIELD_IN_MASK",
            ),
            (
                {"update_mask": FieldMask(paths=["price"])},
                StatusCode.INVALID_ARGUMENT,
                "VALIDATION_FAILED",
            ),
        ],
    )
    async def test_what_does_not_fit_is_refused_and_changes_nothing(
        self,
        catalog: CatalogServiceStub,
        staff: User,
        shirt: Product,
        fields: dict[str, Any],
        code: StatusCode,
        reason: str,
    ) -> None:
        request = {"product_id": shirt.id, "id": shirt.variants[1].id} | fields
        with refused(code, reason):
            await catalog.UpdateVariant(UpdateVariantRequest(**request), metadata=staff())
        assert await read(catalog, shirt, staff) == shirt

    async def test_a_variant_of_another_product_is_not_found(
        self, catalog: CatalogServiceStub, staff: User, shirt: Product
    ) -> None:
        other = await catalog.CreateProduct(
            CreateProductRequest(name="Hat", price=EUR_10), metadata=staff()
        )
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await catalog.UpdateVariant(
                UpdateVariantRequest(product_id=other.id, id=shirt.variants[0].id, weight_grams=5),
                metadata=staff(),
            )

    async def test_it_takes_a_fixed_number_of_statements(
        self, catalog: CatalogServiceStub, staff: User, shirt: Product, served: Running
    ) -> None:
        async with served.counting() as statements:
            await catalog.UpdateVariant(
                UpdateVariantRequest(product_id=shirt.id, id=shirt.variants[0].id, price=EUR_20),
                metadata=staff(),
            )
        assert len(statements) == 6


class TestDeleteVariant:
    async def test_it_leaves_the_product_and_its_sku_is_free_again(
        self, catalog: CatalogServiceStub, staff: User, shirt: Product
    ) -> None:
        await catalog.DeleteVariant(
            DeleteVariantRequest(product_id=shirt.id, id=shirt.variants[1].id), metadata=staff()
        )
        product = await read(catalog, shirt, staff)
        assert [variant.sku for variant in product.variants] == ["SHIRT-M"]
        assert product.etag != shirt.etag
        await catalog.CreateProduct(
            CreateProductRequest(name="Other", price=EUR_10, sku="SHIRT-L"), metadata=staff()
        )

    async def test_the_oldest_one_left_becomes_the_default(
        self, catalog: CatalogServiceStub, staff: User, shirt: Product
    ) -> None:
        await catalog.CreateVariant(
            CreateVariantRequest(product_id=shirt.id, options={"size": "S"}, price=EUR_20),
            metadata=staff(),
        )
        await catalog.DeleteVariant(
            DeleteVariantRequest(product_id=shirt.id, id=shirt.default_variant_id),
            metadata=staff(),
        )
        product = await read(catalog, shirt, staff)
        assert product.default_variant_id == shirt.variants[1].id
        assert product.sku == "SHIRT-L"

    async def test_the_last_one_stays(
        self, catalog: CatalogServiceStub, staff: User, shirt: Product
    ) -> None:
        async def delete(variant: Variant) -> str:
            try:
                await catalog.DeleteVariant(
                    DeleteVariantRequest(product_id=shirt.id, id=variant.id), metadata=staff()
                )
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        outcomes = await asyncio.gather(*(delete(variant) for variant in shirt.variants))
        assert sorted(outcomes) == ["FAILED_PRECONDITION", "OK"]
        assert len((await read(catalog, shirt, staff)).variants) == 1

    @pytest.mark.parametrize(
        ("fields", "code", "reason"),
        [
            ({"etag": "v7"}, StatusCode.ABORTED, "ETAG_MISMATCH"),
            ({"product_id": str(uuid7())}, StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"),
            ({"id": str(uuid7())}, StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"),
        ],
    )
    async def test_what_does_not_fit_is_refused_and_changes_nothing(
        self,
        catalog: CatalogServiceStub,
        staff: User,
        shirt: Product,
        fields: dict[str, Any],
        code: StatusCode,
        reason: str,
    ) -> None:
        request = {"product_id": shirt.id, "id": shirt.variants[1].id} | fields
        with refused(code, reason):
            await catalog.DeleteVariant(DeleteVariantRequest(**request), metadata=staff())
        assert await read(catalog, shirt, staff) == shirt
