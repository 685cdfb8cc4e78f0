"""When a search looks at one product after the other, and when it asks the inverted index."""

from __future__ import annotations

from typing import Any

import pytest

from services.catalog.search_costs import (
    FARTHEST,
    MOST_NAMED,
    RARE,
    STEP,
    STEP_BY_ID,
    STEP_IN_CATEGORY,
    Share,
    reach,
    shares,
)
from services.catalog.search_rules import Term

MILLION = 1_000_000


def word(lexeme: str, **known: Any) -> dict[str, Any]:
    """What statistics say: that there are common words, of which this is none."""
    nothing = {"share": None, "begun": None, "meant": None, "least": 0.002, "named": 200}
    named = {
        f"{scope}_{kind}": value
        for scope in ("everywhere", "names")
        for kind, value in nothing.items()
    }
    return {"lexeme": lexeme, "completions": [], **named, **known}


def far(*most: float, step: float = STEP_BY_ID, products: int = MILLION, **asked: bool) -> int:
    terms = [Share(one) for one in most]
    return reach(terms, products, 21, step, default=4800, **asked)


class TestReach:
    def test_matches_of_a_rare_word_are_all_read(self) -> None:
        assert far(RARE) == 0
        assert far(RARE, 0.3) == 0
        assert far(RARE, other=True) == 0

    def test_a_common_word_is_met_on_the_way_sooner_or_later(self) -> None:
        # On average every tenth product: 210 are enough, but an import may have brought others.
        assert far(0.1) > 100_000

    def test_of_words_that_avoid_each_other_there_are_few_matches(self) -> None:
        assert 21 / 0.01 < far(0.1, 0.1) < 21 / 0.01 * 10

    def test_a_way_all_over_the_table_is_given_up_earlier(self) -> None:
        assert 0 < far(0.1, step=STEP) <= FARTHEST < far(0.1)

    def test_beside_other_filters_nobody_knows_how_far_it_is(self) -> None:
        assert far(0.1, other=True) == 4800

    def test_what_a_category_does_not_soon_show_it_hardly_has(self) -> None:
        assert 210 < far(0.1, step=STEP_IN_CATEGORY, in_category=True) < 2100
        assert far(0.01, step=STEP_IN_CATEGORY, in_category=True) <= 4800

    def test_a_small_catalogue_ends_the_way(self) -> None:
        assert far(0.5, products=50) <= 50


class TestShares:
    @pytest.mark.parametrize("scope", ["everywhere", "names"])
    def test_without_statistics_nothing_is_known(self, scope: str) -> None:
        nobody = word("oak", **{f"{scope}_named": 0, f"{scope}_least": None})
        assert shares([nobody], [Term(("oak",), False)], scope) == []

    def test_words_are_as_common_as_statistics_say(self) -> None:
        oak = word("oak", everywhere_share=0.2, names_share=0.1)
        assert shares([oak], [Term(("oak",), False)], "everywhere") == [Share(0.2)]
        assert shares([oak], [Term(("oak",), False)], "names") == [Share(0.1)]

    def test_what_they_do_not_name_is_rare(self) -> None:
        assert shares([word("oak")], [Term(("oak",), False)], "names") == [Share(RARE)]

    def test_unless_there_was_no_room_for_more_names(self) -> None:
        oak = word("oak", names_named=MOST_NAMED)
        assert shares([oak], [Term(("oak",), False)], "names") == [Share(0.002)]

    def test_a_beginning_is_as_common_as_what_it_may_become(self) -> None:
        st = word("st", everywhere_begun=0.3, completions=["stand", "steel"])
        assert shares([st], [Term(("st",), True)], "everywhere")[0].most > 0.3
        assert shares([st], [Term(("st",), completed=True)], "everywhere")[0].most > 0.3
        everything = word("s", everywhere_begun=1.7)
        assert shares([everything], [Term(("s",), True)], "everywhere") == [Share(1.0, True)]

    def test_beginnings_of_numbers_are_as_common_as_they_are_short(self) -> None:
        one, many = ([Term((digits,), True)] for digits in ("7", "7352"))
        assert shares([word("7")], one, "everywhere") == [Share(0.1, True)]
        assert shares([word("7352")], many, "everywhere") == [Share(RARE, True)]

    def test_a_typing_error_is_as_common_as_what_may_be_meant(self) -> None:
        shrit = word("shrit", everywhere_meant=0.04)
        assert shares([shrit], [Term(("shrit", "shirt"), False)], "everywhere") == [Share(0.04)]
