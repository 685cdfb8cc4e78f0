"""Random lists of products beside a plain, slow reference, with what Postgres knows of words."""

from __future__ import annotations

import random
from typing import Any

import asyncpg
import pytest

from bench.spread import opened
from cli import catalogue, seed
from cli.database import Databases
from services.catalog import search, search_meetings, search_statistics
from services.catalog.search_costs import EVERY, Way
from services.catalog.search_lists import List
from services.catalog.search_statistics import Statistics
from services.catalog.tables import metadata
from shop.catalog.v1.catalog_pb2 import Product
from shop.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from tests.catalog.test_list_products import ORDERS, everything, fulfils, looked_for, minor

PRODUCTS = 2_000
REQUESTS = 40


@pytest.fixture(params=["as costs say", "in any way"])
def decided(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """How lists are looked through: filled by what happened. Any way has to lead to the same."""
    happened: set[str] = set()
    decide = search._way
    luck = random.Random(3)

    def noted(part: List, *asked: Any) -> Way:
        way = decide(part, *asked)
        if request.param == "in any way":
            shares = (0.02, 0.2, 0.7) if part.key is None else (0,)
            way = luck.choice((Way(luck.randrange(9)), Way(5000), Way(share=luck.choice(shares))))
        happened.add("every match" if way == EVERY else "a span" if way.share else "one by one")
        return way

    monkeypatch.setattr(search, "_way", noted)
    return happened


async def test_any_list_is_what_the_reference_says(
    catalog: CatalogServiceStub,
    databases: Databases,
    decided: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert databases.owner is not None
    await seed.load(databases.services["catalog"], catalogue.made_up_items(PRODUCTS, "reference"))
    await seed.refresh_statistics(databases.owner)
    statistics = await known(databases.services["catalog"])
    monkeypatch.setattr(Statistics, "known", statistics)
    async with opened(databases.services["catalog"], metadata) as database:
        assert await search_meetings.learn(database, statistics, rest=0) > 50
    # Whatever is new meets, too.
    await seed.load(databases.services["catalog"], catalogue.made_up_items(PRODUCTS // 4, "new"))
    listed = await everything(catalog, page_size=1000)
    assert len(listed) == PRODUCTS * 5 // 4
    luck = random.Random(7)
    for _ in range(REQUESTS):
        like, other = luck.sample(listed, 2)
        order, wanted = drawn(luck, like)
        if "q" in wanted and luck.random() < 0.2:
            # Many words are never together.
            wanted["q"] = f"{luck.choice(other.name.split())} {wanted['q']}"
        expected = [product for product in listed if fulfils(product, wanted)]
        size = max(7, len(expected) // 3)
        found = await everything(catalog, order_by=order, page_size=min(size, 1000), **wanted)
        assert found == in_order(expected, order, wanted), (order, wanted)
    assert decided >= {"every match", "one by one"}


async def known(url: str) -> search_statistics.Known:
    """What a service learns when it asks."""
    connection = await asyncpg.connect(url)
    try:
        return await search_statistics.read(connection)
    finally:
        await connection.close()


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
