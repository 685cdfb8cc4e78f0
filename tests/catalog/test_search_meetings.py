"""What no product has together is not searched, and whatever a product gets is found at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from bench.spread import opened
from cli.database import Databases
from services.catalog import search_meetings
from services.catalog.search_statistics import Known, known
from services.catalog.tables import metadata
from services.kit.db import Database
from shop.catalog.v1.catalog_pb2 import (
    CreateCategoryRequest,
    UpdateProductRequest,
)
from shop.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from tests.callers import User
from tests.catalog.test_list_products import everything, make, names

FREQUENT = ("wool", "shirt", "oak")


def common(*terms: str) -> Known:
    return known([("word", term, 0.5) for term in terms])


@pytest_asyncio.fixture
async def database(databases: Databases, empty_database: None) -> AsyncIterator[Database]:
    async with opened(databases.services["catalog"], metadata) as own:
        yield own


@pytest_asyncio.fixture
async def strangers(
    catalog: CatalogServiceStub, staff: User, database: Database
) -> CatalogServiceStub:
    """Frequent words, all followed, of which `oak` is with no other."""
    await make(catalog, staff, "Wool shirt")
    await make(catalog, staff, "Oak table")
    assert await search_meetings.learn(database, common(*FREQUENT), rest=0) == len(FREQUENT)
    return catalog


async def met(databases: Databases) -> dict[str, int]:
    """How many terms each complete one has met, itself among them."""
    owner = await asyncpg.connect(databases.owner)
    try:
        rows = await owner.fetch(
            "SELECT term, bit_count(met) AS met FROM catalog.frequent_terms WHERE complete"
        )
    finally:
        await owner.close()
    return {row["term"]: row["met"] for row in rows}


async def test_what_products_have_together_has_met(
    strangers: CatalogServiceStub, databases: Databases, database: Database
) -> None:
    assert await met(databases) == {"wool": 2, "shirt": 2, "oak": 1}
    assert await names(strangers, q="wool shirt ") == ["Wool shirt"]
    assert await names(strangers, q="oak shirt") == []
    # All of them are followed already.
    assert await search_meetings.learn(database, common(*FREQUENT), rest=0) == 0


async def test_terms_that_become_frequent_later_meet_the_others(
    strangers: CatalogServiceStub, databases: Databases, database: Database
) -> None:
    assert await search_meetings.learn(database, common("table", *FREQUENT), rest=0) == 1
    assert (await met(databases))["oak"] == 2
    assert await names(strangers, q="oak table") == ["Oak table"]
    assert await names(strangers, q="wool table") == []


async def test_a_new_product_is_found_at_once(strangers: CatalogServiceStub, staff: User) -> None:
    for number in range(2):
        await make(strangers, staff, f"Shirt of oak {number}")
    assert await names(strangers, q="oak shirt") == ["Shirt of oak 1", "Shirt of oak 0"]


async def test_a_changed_product_is_found_at_once(
    strangers: CatalogServiceStub, staff: User
) -> None:
    (table,) = [one for one in await everything(strangers) if one.name == "Oak table"]
    request = UpdateProductRequest(id=table.id, description="Looks well with a wool shirt.")
    await strangers.UpdateProduct(request, metadata=staff())
    assert await names(strangers, q="oak shirt") == ["Oak table"]
    assert await names(strangers, q="wool oak") == ["Oak table"]


async def test_categories_and_attributes_are_terms_too(
    catalog: CatalogServiceStub, staff: User, database: Database
) -> None:
    category = await catalog.CreateCategory(CreateCategoryRequest(name="Tables"), metadata=staff())
    product = await make(catalog, staff, "Oak table")
    frequent = known(
        [("word", "oak", 0.5), ("category", category.id, 0.5), ("facet", "colour=red", 0.5)]
    )
    await search_meetings.learn(database, frequent, rest=0)
    assert await names(catalog, q="oak ", category_id=category.id) == []
    assert await names(catalog, q="oak ", attributes=["colour=red"]) == []
    request = UpdateProductRequest(
        id=product.id, category_ids=[category.id], attributes={"colour": "red"}
    )
    await catalog.UpdateProduct(request, metadata=staff())
    assert await names(catalog, q="oak ", category_id=category.id) == ["Oak table"]
    assert await names(catalog, q="oak ", attributes=["colour=red"]) == ["Oak table"]
    assert await names(catalog, category_id=category.id, attributes=["colour=red"]) == ["Oak table"]


async def test_who_was_writing_when_a_term_became_frequent_is_waited_for(
    catalog: CatalogServiceStub, staff: User, databases: Databases, database: Database
) -> None:
    await make(catalog, staff, "Wool shirt")
    await make(catalog, staff, "Oak table")
    writer = await asyncpg.connect(databases.services["catalog"])
    try:
        async with writer.transaction():
            # Its trigger does not know of frequent terms yet.
            await writer.execute(
                "UPDATE catalog.products SET description = 'Of wool' WHERE name = 'Oak table'"
            )
            learning = asyncio.create_task(
                search_meetings.learn(database, common(*FREQUENT), rest=0)
            )
            await asyncio.wait([learning], timeout=0.5)
            assert not learning.done()
            assert await names(catalog, q="oak wool") == []
        assert await learning == len(FREQUENT)
    finally:
        await writer.close()
    assert await names(catalog, q="oak wool") == ["Oak table"]
