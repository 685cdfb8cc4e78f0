"""Categories: a tree of at most ten levels."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.money_pb2 import Money
from grpc import StatusCode

from services.kit.ids import uuid7
from shop.catalog.v1.catalog_pb2 import (
    Category,
    CreateCategoryRequest,
    CreateProductRequest,
    DeleteCategoryRequest,
    GetCategoryRequest,
    ListCategoriesRequest,
    UpdateCategoryRequest,
)
from shop.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from tests.callers import User
from tests.running import refused

EUR_10 = Money(currency_code="EUR", units=10)


async def make(catalog: CatalogServiceStub, staff: User, **fields: Any) -> Category:
    return await catalog.CreateCategory(CreateCategoryRequest(**fields), metadata=staff())


async def chain(catalog: CatalogServiceStub, staff: User, levels: int) -> list[Category]:
    """Categories each below the one before."""
    made: list[Category] = []
    for level in range(levels):
        parent = made[-1].id if made else ""
        made.append(await make(catalog, staff, name=f"Level {level}", parent_id=parent))
    return made


class TestCreateCategory:
    async def test_it_comes_back_by_id_and_slug(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        parent = await make(catalog, staff, name="Clothes")
        made = await make(
            catalog, staff, name="Hüte & Mützen", description="Warm.", parent_id=parent.id
        )
        assert made.slug == "hute-mutzen"
        assert made.parent_id == parent.id
        for id in (made.id, made.slug):
            assert await catalog.GetCategory(GetCategoryRequest(id=id)) == made

    async def test_a_slug_that_is_taken_is_refused_or_avoided(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        await make(catalog, staff, name="Hats")
        assert (await make(catalog, staff, name="Hats")).slug.startswith("hats-")
        with refused(StatusCode.ALREADY_EXISTS, "SLUG_TAKEN"):
            await make(catalog, staff, name="Other", slug="hats")

    async def test_a_parent_that_does_not_exist_is_refused(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await make(catalog, staff, name="Hats", parent_id=str(uuid7()))

    async def test_there_are_at_most_ten_levels(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        levels = await chain(catalog, staff, 10)
        with refused(StatusCode.FAILED_PRECONDITION, "LIMIT_REACHED") as refusal:
            await make(catalog, staff, name="Too deep", parent_id=levels[-1].id)
        assert refusal[0].metadata == {"resource": "levels", "limit": "10"}


class TestListCategories:
    async def test_pages_follow_each_other_by_name(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        for name in ("Delta", "alpha", "Charlie", "Bravo", "Bravo"):
            await make(catalog, staff, name=name)
        names: list[str] = []
        token = ""
        for _ in range(3):
            page = await catalog.ListCategories(
                ListCategoriesRequest(page_size=2, page_token=token)
            )
            names += [category.name for category in page.categories]
            token = page.next_page_token
        assert names == ["Bravo", "Bravo", "Charlie", "Delta", "alpha"]
        assert token == ""

    async def test_it_lists_the_top_or_one_parents_categories(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        top, below, _ = await chain(catalog, staff, 3)
        at_top = await catalog.ListCategories(ListCategoriesRequest(parent_id="top"))
        assert list(at_top.categories) == [top]
        in_top = await catalog.ListCategories(ListCategoriesRequest(parent_id=top.id))
        assert list(in_top.categories) == [below]

    @pytest.mark.parametrize("token", ["rubbish", "W10", "IiI", "W1tdXQ", "-" * 1000])
    async def test_a_token_that_is_not_ours_is_refused(
        self, catalog: CatalogServiceStub, token: str
    ) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"):
            await catalog.ListCategories(ListCategoriesRequest(page_token=token))

    async def test_a_token_of_another_filter_is_refused(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        for name in ("One", "Two"):
            await make(catalog, staff, name=name)
        page = await catalog.ListCategories(ListCategoriesRequest(page_size=1))
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"):
            await catalog.ListCategories(
                ListCategoriesRequest(parent_id="top", page_token=page.next_page_token)
            )


class TestGetCategory:
    @pytest.mark.parametrize("id", [str(uuid7()), "no-such-slug"], ids=["id", "slug"])
    async def test_what_does_not_exist_is_not_found(
        self, catalog: CatalogServiceStub, id: str
    ) -> None:
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await catalog.GetCategory(GetCategoryRequest(id=id))


class TestUpdateCategory:
    async def test_it_changes_what_is_set(self, catalog: CatalogServiceStub, staff: User) -> None:
        made = await make(catalog, staff, name="Hats", description="Old")
        after = await catalog.UpdateCategory(
            UpdateCategoryRequest(id=made.id, name="Caps", etag=made.etag), metadata=staff()
        )
        assert (after.name, after.slug, after.description) == ("Caps", "hats", "Old")
        assert after.etag != made.etag

    async def test_it_moves_to_the_top(self, catalog: CatalogServiceStub, staff: User) -> None:
        _, below = await chain(catalog, staff, 2)
        after = await catalog.UpdateCategory(
            UpdateCategoryRequest(id=below.id, update_mask=FieldMask(paths=["parent_id"])),
            metadata=staff(),
        )
        assert after.parent_id == ""

    async def test_it_cannot_stand_below_itself(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        top, _, bottom = await chain(catalog, staff, 3)
        for parent in (top, bottom):
            with refused(StatusCode.FAILED_PRECONDITION, "CATEGORY_CYCLE"):
                await catalog.UpdateCategory(
                    UpdateCategoryRequest(id=top.id, parent_id=parent.id), metadata=staff()
                )

    async def test_two_moves_at_once_make_no_circle(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        one, two = await make(catalog, staff, name="One"), await make(catalog, staff, name="Two")

        async def move(category: Category, parent: Category) -> str:
            try:
                await catalog.UpdateCategory(
                    UpdateCategoryRequest(id=category.id, parent_id=parent.id), metadata=staff()
                )
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        outcomes = await asyncio.gather(move(one, two), move(two, one))
        assert sorted(outcomes) == ["FAILED_PRECONDITION", "OK"]

    async def test_a_tall_tree_cannot_move_too_deep(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        high, low = await chain(catalog, staff, 6), await chain(catalog, staff, 5)
        with refused(StatusCode.FAILED_PRECONDITION, "LIMIT_REACHED"):
            await catalog.UpdateCategory(
                UpdateCategoryRequest(id=low[0].id, parent_id=high[-1].id), metadata=staff()
            )

    @pytest.mark.parametrize(
        ("fields", "code", "reason"),
        [
            ({"etag": "v9"}, StatusCode.ABORTED, "ETAG_MISMATCH"),
            ({"slug": "taken"}, StatusCode.ALREADY_EXISTS, "SLUG_TAKEN"),
            ({"parent_id": str(uuid7())}, StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"),
            ({"id": str(uuid7())}, StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"),
            (
                {"update_mask": FieldMask(paths=["etag"])},
                StatusCode.INVALID_ARGUMENT,
                "UNKNOWN_FIELD_IN_MASK",
            ),
            (
                {"update_mask": FieldMask(paths=["name"])},
                StatusCode.INVALID_ARGUMENT,
                "VALIDATION_FAILED",
            ),
        ],
    )
    async def test_what_does_not_fit_is_refused_and_changes_nothing(
        self,
        catalog: CatalogServiceStub,
        staff: User,
        fields: dict[str, Any],
        code: StatusCode,
        reason: str,
    ) -> None:
        await make(catalog, staff, name="Taken")
        made = await make(catalog, staff, name="Hats")
        with refused(code, reason):
            await catalog.UpdateCategory(
                UpdateCategoryRequest(**{"id": made.id} | fields), metadata=staff()
            )
        assert await catalog.GetCategory(GetCategoryRequest(id=made.id)) == made


class TestDeleteCategory:
    async def test_an_empty_one_goes(self, catalog: CatalogServiceStub, staff: User) -> None:
        made = await make(catalog, staff, name="Hats")
        await catalog.DeleteCategory(DeleteCategoryRequest(id=made.id), metadata=staff())
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await catalog.GetCategory(GetCategoryRequest(id=made.id))

    async def test_one_with_categories_or_products_stays(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        top, below = await chain(catalog, staff, 2)
        await catalog.CreateProduct(
            CreateProductRequest(name="Hat", price=EUR_10, category_ids=[below.id]),
            metadata=staff(),
        )
        for category in (top, below):
            with refused(StatusCode.FAILED_PRECONDITION, "CATEGORY_NOT_EMPTY"):
                await catalog.DeleteCategory(
                    DeleteCategoryRequest(id=category.id), metadata=staff()
                )

    async def test_no_product_is_left_in_a_category_deleted_meanwhile(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        made = await make(catalog, staff, name="Hats")

        async def put() -> str:
            try:
                await catalog.CreateProduct(
                    CreateProductRequest(name="Hat", price=EUR_10, category_ids=[made.id]),
                    metadata=staff(),
                )
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        async def delete() -> str:
            try:
                await catalog.DeleteCategory(DeleteCategoryRequest(id=made.id), metadata=staff())
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        outcomes = await asyncio.gather(put(), delete())
        assert sorted(outcomes) in (["FAILED_PRECONDITION", "OK"], ["NOT_FOUND", "OK"])

    @pytest.mark.parametrize(
        ("fields", "code", "reason"),
        [
            ({"etag": "v9"}, StatusCode.ABORTED, "ETAG_MISMATCH"),
            ({"id": str(uuid7())}, StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"),
        ],
    )
    async def test_what_does_not_fit_is_refused(
        self,
        catalog: CatalogServiceStub,
        staff: User,
        fields: dict[str, Any],
        code: StatusCode,
        reason: str,
    ) -> None:
        made = await make(catalog, staff, name="Hats")
        with refused(code, reason):
            await catalog.DeleteCategory(
                DeleteCategoryRequest(**{"id": made.id} | fields), metadata=staff()
            )
