"""Random lists of products beside a plain, slow reference, with what Postgres knows of words."""

from __future__ import annotations

import random
from typing import Any

import pytest

from cli import catalogue, seed
from cli.database import Databases
from services.catalog import search
from shop.catalog.v1.catalog_pb2 import Product
from shop.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from tests.catalog.test_list_products import ORDERS, everything, fulfils, looked_for, minor

PRODUCTS = 2_000
REQUESTS = 40


@pytest.fixture(params=[search.REACH, 9], ids=["far", "near"])
def reaches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """How lists are looked through: filled by what follows the names of those that happened."""
    happened: set[str] = set()
    decide = search._reach

    def noted(*asked: Any) -> int:
        reach = decide(*asked)
        words = asked[3]
        if not reach:
            happened.add("every match")
        elif words and reach > search.REACH:
            happened.add("as far as words are common")
        else:
            happened.add("as far as usual")
        return reach

    monkeypatch.setattr(search, "REACH", request.param)
    monkeypatch.setattr(search, "REACH_EACH", 0)
    monkeypatch.setattr(search, "_reach", noted)
    return happened


async def test_any_list_is_what_the_reference_says(
    catalog: CatalogServiceStub, databases: Databases, reaches: set[str]
) -> None:
    assert databases.owner is not None
    await seed.load(databases.services["catalog"], catalogue.made_up_items(PRODUCTS, "reference"))
    await seed.refresh_statistics(databases.owner)
    listed = await everything(catalog, page_size=1000)
    assert len(listed) == PRODUCTS
    luck = random.Random(7)
    for _ in range(REQUESTS):
        order, wanted = drawn(luck, luck.choice(listed))
        expected = [product for product in listed if fulfils(product, wanted)]
        size = max(7, len(expected) // 3)
        found = await everything(catalog, order_by=order, page_size=min(size, 1000), **wanted)
        assert found == in_order(expected, order, wanted), (order, wanted)
    assert reaches >= {"every match", "as far as usual"}
    if search.REACH < PRODUCTS:
        assert "as far as words are common" in reaches


def drawn(luck: random.Random, like: Product) -> tuple[str, dict[str, Any]]:
    """An order and filters that `like` fulfils, mostly."""
    wanted: dict[str, Any] = {}
    if luck.random() < 0.25:
        wanted["category_id"] = like.category_ids[0]
    if luck.random() < 0.2:
        wanted["max_price"] = minor(like) + luck.randrange(5000)
    if luck.random() < 0.25:
        wanted["in_stock"] = True
    if luck.random() < 0.25:
        key, value = luck.choice(sorted(like.attributes.items()))
        wanted["attributes"] = [f"{key}={value}"]
    if luck.random() < 0.8:
        text = luck.choice((like.name, like.name, like.description))
        words = [word.strip(".,'") for word in text.split()]
        chosen = luck.sample(words, min(len(words), luck.choice((1, 1, 2, 3))))
        if luck.random() < 0.3:
            chosen = words[: luck.choice((1, 2))]
        if luck.random() < 0.3:
            chosen[-1] = chosen[-1][: luck.choice((1, 2, 4))]
        wanted["q"] = " ".join(chosen)
    orders = [*ORDERS, "relevance", "relevance"] if "q" in wanted else list(ORDERS)
    return luck.choice(orders), wanted


def in_order(products: list[Product], order: str, wanted: dict[str, Any]) -> list[Product]:
    """The products as they have to be listed."""
    if order != "relevance":
        key, backwards = ORDERS[order]
        return sorted(products, key=key, reverse=backwards)
    begins = wanted["q"].lower()
    parts: tuple[list[Product], ...] = ([], [], [])
    for product in products:
        words = "".join(
            letter if letter.isalnum() else " " for letter in product.name.lower()
        ).split()
        named = all(
            any(word.startswith(part) if last else word == part for word in words)
            for part, last in looked_for(wanted["q"])
        )
        place = 2 if not named else 0 if product.name.lower().startswith(begins) else 1
        parts[place].append(product)
    newest, backwards = ORDERS["newest"]
    return [
        *sorted(parts[0], key=ORDERS["name"][0]),
        *sorted(parts[1], key=newest, reverse=backwards),
        *sorted(parts[2], key=newest, reverse=backwards),
    ]
