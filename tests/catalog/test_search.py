"""Searching products: words, beginnings, accents, typing errors, and what comes first."""

from __future__ import annotations

import asyncio
import random

import pytest

from cli import catalogue, seed
from cli.database import Databases
from services.catalog import search
from shop.catalog.v1.catalog_pb2 import (
    ListProductsRequest,
    UpdateProductRequest,
    UpdateVariantRequest,
)
from shop.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from tests.callers import User
from tests.catalog.test_list_products import eur, everything, make, names


@pytest.fixture(params=[search.REACH, 2], ids=["found at once", "found by index"], autouse=True)
def reach(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "REACH", request.param)
    monkeypatch.setattr(search, "REACH_EACH", 0)


@pytest.fixture
async def stocked(catalog: CatalogServiceStub, staff: User) -> CatalogServiceStub:
    """A small catalogue, oldest first."""
    await make(catalog, staff, "Espresso machine", description="For two cups.")
    await make(catalog, staff, "Cleaner", description="For the espresso machine.")
    await make(catalog, staff, "Machine for filter coffee", description="Makes no espresso.")
    await make(catalog, staff, "Cup for espresso, by machine", sku="CUP-4401/b")
    await make(catalog, staff, "Crème brûlée dish", description="Straße, Ångström, T-Shirt")
    await make(catalog, staff, "Wool shirt", description="A warm one.")
    return catalog


class TestWords:
    async def test_all_words_have_to_be_there(self, stocked: CatalogServiceStub) -> None:
        assert await names(stocked, q="wool shirt") == ["Wool shirt"]
        assert await names(stocked, q="shirt, WOOL!") == ["Wool shirt"]
        assert await names(stocked, q="wool espresso") == []

    async def test_the_last_word_may_be_unfinished(self, stocked: CatalogServiceStub) -> None:
        assert await names(stocked, q="wool sh") == ["Wool shirt"]
        assert await names(stocked, q="w") == ["Wool shirt"]
        assert await names(stocked, q="woo shirt") == []

    @pytest.mark.parametrize(
        "q",
        ["creme brulee", "CRÈME", "cre\u0300me", "\uff23reme", "strasse", "angstrom", "STRASSE"],
    )
    async def test_accents_and_ways_to_write_them_do_not_matter(
        self, stocked: CatalogServiceStub, q: str
    ) -> None:
        assert await names(stocked, q=q) == ["Crème brûlée dish"]

    @pytest.mark.parametrize("q", ["CUP-4401/b", "cup-4401", "4401", "cup 4401 B"])
    async def test_skus_are_searched(self, stocked: CatalogServiceStub, q: str) -> None:
        assert await names(stocked, q=q) == ["Cup for espresso, by machine"]

    async def test_a_search_follows_changes(self, stocked: CatalogServiceStub, staff: User) -> None:
        (dish,) = await everything(stocked, q="brulee")
        await stocked.UpdateProduct(
            UpdateProductRequest(id=dish.id, name="Zabaione glass"), metadata=staff()
        )
        await stocked.UpdateVariant(
            UpdateVariantRequest(product_id=dish.id, id=dish.variants[0].id, sku="ZAB-1"),
            metadata=staff(),
        )
        assert await names(stocked, q="brulee") == []
        assert await names(stocked, q="zab 1") == ["Zabaione glass"]
        assert await names(stocked, q="zabaoine") == ["Zabaione glass"]


class TestBounds:
    async def test_a_list_by_price_begins_where_the_words_are(
        self, stocked: CatalogServiceStub, staff: User
    ) -> None:
        await make(stocked, staff, "Wool sock", price=eur(4))
        await make(stocked, staff, "Wool coat", price=eur(300))
        for q in ("wool", "wo", "warm woo"):
            found = await names(stocked, q=q, order_by="price")
            assert found == (
                ["Wool shirt"] if "warm" in q else ["Wool sock", "Wool shirt", "Wool coat"]
            )
            assert await names(stocked, q=q, order_by="-price") == found[::-1]

    async def test_a_list_by_name_begins_where_the_words_are(
        self, stocked: CatalogServiceStub, staff: User
    ) -> None:
        coat = await make(stocked, staff, "Zip coat of wool")
        assert await names(stocked, q="wool", order_by="name") == ["Wool shirt", "Zip coat of wool"]
        renamed = UpdateProductRequest(id=coat.id, name="A coat of wool")
        await stocked.UpdateProduct(renamed, metadata=staff())
        for q in ("wool", "wo", "coat"):
            found = await names(stocked, q=q, order_by="name", page_size=1)
            assert found == ["A coat of wool"] + ["Wool shirt"] * (q != "coat")

    async def test_prices_that_change_are_followed(
        self, stocked: CatalogServiceStub, staff: User
    ) -> None:
        coat = await make(stocked, staff, "Wool coat", price=eur(300))
        for price in (1, 900, 30):
            changed = UpdateProductRequest(id=coat.id, price=eur(price))
            await stocked.UpdateProduct(changed, metadata=staff())
            for q in ("coat", "co", "4711"):
                expected = [] if q == "4711" else ["Wool coat"]
                found = await names(stocked, q=q, order_by="price", min_price=0, max_price=100_000)
                assert [name for name in found if name.startswith("Wool")] == expected
                found = await names(stocked, q=q, order_by="-price")
                assert [name for name in found if name.startswith("Wool")] == expected

    async def test_words_of_two_products_may_be_learned_at_once(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        words = [f"word{one}{other}" for one in "abcdefghij" for other in "abcdefghij"]
        shuffled = [random.Random(n).sample(words, len(words)) for n in range(8)]
        await asyncio.gather(
            *(
                make(catalog, staff, str(n), description=" ".join(some), price=eur(n + 1))
                for n, some in enumerate(shuffled)
            )
        )
        for q in ("wordaa", "wordjj", "wordc"):
            found = await names(catalog, q=q, order_by="price")
            assert found == [str(n) for n in range(8)]


class TestTypingErrors:
    @pytest.mark.parametrize(
        "q",
        [
            "epsresso machine",
            "espreso machine",
            "espressso machine",
            "espresso mashine",
            "machine espreso",
        ],
    )
    async def test_small_ones_are_forgiven(self, stocked: CatalogServiceStub, q: str) -> None:
        assert len(await names(stocked, q=q)) == 4

    async def test_words_that_are_there_are_not_corrected(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        await make(catalog, staff, "Shirt")
        await make(catalog, staff, "Skirt")
        assert await names(catalog, q="skirt") == ["Skirt"]
        assert sorted(await names(catalog, q="shkirt")) == ["Shirt", "Skirt"]

    async def test_two_products_with_new_words_may_be_made_at_once(
        self, catalog: CatalogServiceStub, staff: User
    ) -> None:
        letters = "abcdefghij"
        words = [f"wort{one}{other}" for one in letters for other in letters]
        shuffled = [random.Random(n).sample(words, len(words)) for n in range(8)]
        await asyncio.gather(
            *(make(catalog, staff, "new", description=" ".join(words)) for words in shuffled)
        )
        assert len(await names(catalog, q="wortaa wortjj")) == 8


class TestOrder:
    async def test_names_that_begin_so_then_names_then_the_rest(
        self, stocked: CatalogServiceStub
    ) -> None:
        for size in (1, 2, 50):
            assert await names(stocked, q="espresso machine", page_size=size) == [
                "Espresso machine",
                "Cup for espresso, by machine",
                "Machine for filter coffee",
                "Cleaner",
            ]

    async def test_relevance_is_the_order_unless_another_is_asked_for(
        self, stocked: CatalogServiceStub
    ) -> None:
        for q in ("espresso", "machine e"):
            ranked = await names(stocked, q=q)
            assert await names(stocked, q=q, order_by="relevance") == ranked
            assert await names(stocked, q=q, order_by="name") == sorted(ranked)

    async def test_the_exact_name_is_first(self, catalog: CatalogServiceStub, staff: User) -> None:
        for name in ("Cap", "Cape", "Cap for the sun", "Red cap"):
            await make(catalog, staff, name)
        assert await names(catalog, q="CAP") == ["Cap", "Cap for the sun", "Cape", "Red cap"]

    async def test_pages_hold_each_match_once(
        self, catalog: CatalogServiceStub, databases: Databases
    ) -> None:
        await seed.load(databases.services["catalog"], catalogue.made_up_items(300, "s"))
        for q in ("made", "s", "steel", "classic steel", "collection in navy"):
            whole = await names(catalog, q=q, page_size=1000)
            assert await names(catalog, q=q, page_size=7) == whole
            assert len(await everything(catalog, q=q, page_size=7, in_stock=True)) <= len(whole)


class TestHarmless:
    @pytest.mark.parametrize("q", ["!", "'", " ", "😀", "&|!:*()<->\\", "--", "%_", "\u202e\u200b"])
    async def test_without_a_letter_or_digit_nothing_is_found(
        self, stocked: CatalogServiceStub, q: str
    ) -> None:
        assert await names(stocked, q=q) == []

    @pytest.mark.parametrize(
        "q",
        ["wool & !shirt | (", "wool:*AB <-> shirt", "'wool' \\' shirt", "wool'); DROP TABLE x; --"],
    )
    async def test_operators_are_not_understood(self, stocked: CatalogServiceStub, q: str) -> None:
        found = await names(stocked, q=q)
        assert found in ([], ["Wool shirt"])

    async def test_anything_may_be_searched_for(self, stocked: CatalogServiceStub) -> None:
        luck = random.Random(3)
        alphabet = [
            *"aZ09 '\"&|!:*()<->\\%_-./,;",
            "é",
            "ß",
            "日",
            "😀",
            "\u0301",
            "\U0010ffff",
            "\n",
        ]
        for length in (1, 2, 5, 20, 200):
            for order in ("relevance", "newest", "name"):
                for _ in range(4):
                    q = "".join(luck.choices(alphabet, k=length))
                    await stocked.ListProducts(ListProductsRequest(q=q, order_by=order))
        await stocked.ListProducts(ListProductsRequest(q=" ".join("ab" * 33)))
        await stocked.ListProducts(ListProductsRequest(q="x" * 200))
