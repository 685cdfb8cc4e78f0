"""When a search looks at one product after the other, and what it asks the inverted index."""

from __future__ import annotations

from typing import Any

import pytest

from services.catalog.search_costs import (
    EVERY,
    FARTHEST,
    STEP,
    STEP_BY_ID,
    STEP_IN_CATEGORY,
    Share,
    Way,
    of_one,
    of_words,
    sought,
    way,
)
from services.catalog.search_rules import Term
from services.catalog.search_statistics import MOST_NAMED, RARE, Prices, Shares, known

MILLION = 1_000_000
NAMED = Shares({"oak": 0.2, "steel": 0.12, "steep": 0.18, "shirt": 0.04})


def word(lexeme: str, *completions: str) -> dict[str, Any]:
    return {"lexeme": lexeme, "completions": list(completions)}


def chosen(*most: float, step: float = STEP_BY_ID, products: int = MILLION, **asked: Any) -> Way:
    asked.setdefault("by_id", step == STEP_BY_ID)
    return way([Share(one) for one in most], products, 21, step, default=4800, **asked)


class TestWay:
    def test_matches_of_a_rare_word_are_all_read(self) -> None:
        assert chosen(RARE) == EVERY
        assert chosen(RARE, 0.3) == EVERY
        assert chosen(RARE, step=STEP, kept=0.5) == EVERY

    def test_in_a_small_catalogue_most_are_rare(self) -> None:
        assert chosen(0.005, products=10_000) == EVERY
        assert chosen(0.1, 0.1, products=10_000) == EVERY

    def test_a_common_word_is_met_on_the_way_sooner_or_later(self) -> None:
        # On average every tenth product: 210 are enough, but an import may have brought others.
        assert chosen(0.1).reach > 100_000

    def test_between_the_two_the_index_has_as_many_as_should_fill_the_page(self) -> None:
        for most in ((0.002,), (0.1, 0.01), (0.3, 0.1, 0.03)):
            found = chosen(*most)
            assert found.reach == 0
            assert 0 < found.share < 0.25

    def test_words_of_one_search_may_be_together_more_often_than_by_chance(self) -> None:
        # 5 by chance, but maybe thousands: a small part is cheap.
        assert 0.01 < chosen(0.013, 0.026, 0.014).share < 0.1

    def test_spans_are_those_of_ids(self) -> None:
        assert chosen(0.1, 0.01, step=STEP, by_id=False).share == 0
        assert chosen(0.1, 0.01, step=STEP_IN_CATEGORY, by_id=True).share > 0

    def test_of_words_that_avoid_each_other_there_are_few_matches(self) -> None:
        assert 21 / 0.09 < chosen(0.3, 0.3).reach < 21 / 0.09 * 10

    def test_a_way_all_over_the_table_is_given_up_earlier(self) -> None:
        assert 0 < chosen(0.1, step=STEP).reach <= FARTHEST < chosen(0.1).reach

    def test_a_price_keeps_some_of_them(self) -> None:
        assert chosen(0.4, kept=0.5).reach < chosen(0.4).reach
        assert chosen(0.4, kept=0.01).share > 0
        assert chosen(kept=0.3) == Way(4800)
        assert chosen(kept=0.001) == EVERY

    def test_what_a_category_does_not_soon_show_it_hardly_has(self) -> None:
        found = chosen(0.5, step=STEP_IN_CATEGORY, category=Share(0.05))
        assert 42 < found.reach < 420

    def test_a_small_catalogue_ends_the_way(self) -> None:
        assert chosen(0.9, products=50).reach <= 50


class TestSought:
    def test_the_index_is_not_asked_for_beginnings_beside_anything_else(self) -> None:
        assert sought([Share(0.1), Share(0.5, unfinished=True)]) == [True, False]

    def test_nor_for_what_most_products_have(self) -> None:
        assert sought([Share(0.1), Share(0.9), Share(0.2)]) == [True, False, True]

    def test_unless_there_is_nothing_else(self) -> None:
        assert sought([Share(0.5, unfinished=True)]) == [True]
        assert sought([Share(0.9), Share(0.6)]) == [False, True]


class TestShares:
    def test_words_are_as_common_as_statistics_say(self) -> None:
        assert of_words([word("oak")], [Term(("oak",))], NAMED) == [Share(0.2)]

    def test_what_they_do_not_name_is_rare(self) -> None:
        assert of_words([word("elm")], [Term(("elm",))], NAMED) == [Share(RARE)]

    def test_unless_there_was_no_room_for_more_names(self) -> None:
        many = Shares({f"word{number}": 0.002 for number in range(MOST_NAMED)})
        assert of_words([word("elm")], [Term(("elm",))], many) == [Share(0.002)]

    def test_a_beginning_is_as_common_as_what_it_may_become(self) -> None:
        st = word("st", "steel", "steep")
        (found,) = of_words([st], [Term(("st",), unfinished=True)], NAMED)
        assert 0.3 < found.most < 0.31
        assert found.unfinished
        (found,) = of_words([st], [Term(("st", "steel", "steep"), completed=True)], NAMED)
        assert 0.3 < found.most < 0.31
        assert not found.unfinished

    def test_no_share_is_more_than_everything(self) -> None:
        many = Shares({"sa": 0.9, "sb": 0.8})
        assert of_words([word("s")], [Term(("s",), unfinished=True)], many) == [Share(1.0, True)]
        assert of_one(["sa", "sb"], many) == Share(1.0)

    def test_beginnings_of_numbers_are_as_common_as_they_are_short(self) -> None:
        one, many = ([Term((digits,), unfinished=True)] for digits in ("7", "7352"))
        assert of_words([word("7")], one, NAMED) == [Share(0.1, True)]
        assert of_words([word("7352")], many, NAMED) == [Share(RARE, True)]

    def test_a_typing_error_is_as_common_as_what_may_be_meant(self) -> None:
        (found,) = of_words([word("shrit")], [Term(("shrit", "shirt"))], NAMED)
        assert found.most == 0.04


class TestPrices:
    def test_as_many_are_between_two_as_statistics_say(self) -> None:
        prices = Prices({500: 0.2}, range(0, 1001, 10))
        assert prices.between(0, 499) == pytest.approx(0.4, abs=0.02)
        assert prices.between(0, 500) == pytest.approx(0.6, abs=0.02)
        assert prices.between(200, 300) == pytest.approx(0.08, abs=0.02)
        assert 0 < prices.between(2000, 3000) < 0.01
        assert prices.between(0, 3000) == 1

    def test_what_is_unknown_keeps_everything(self) -> None:
        assert Prices({}, []).between(0, 5) == 1


class TestKnown:
    def test_without_statistics_nothing_is_known(self) -> None:
        nothing = known([])
        assert not nothing.everywhere
        assert nothing.products == 0

    def test_each_kind_has_its_own_shares(self) -> None:
        first, last = (f"01990000-0000-7000-8000-00000000000{digit}" for digit in "19")
        found = known(
            [
                ("word", "oak", 0.2),
                ("name", "oak", 0.1),
                ("facet", "colour=oak", 0.05),
                ("id", last, None),
                ("id", first, None),
                ("price", "20", None),
                ("price", "3", None),
                ("price", "5", 0.25),
                ("products", None, 7.0),
            ]
        )
        assert found.everywhere.of("oak") == 0.2
        assert found.names.of("oak") == 0.1
        assert found.facets.of("colour=oak") == 0.05
        assert not found.categories
        assert [str(id) for id in found.ids] == [first, last]
        assert found.prices == Prices({5: 0.25}, [3, 20])
        assert found.products == 7
