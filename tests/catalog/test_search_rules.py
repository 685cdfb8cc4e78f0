"""What a search looks for, and which typing errors it forgives."""

from __future__ import annotations

from typing import Any

import pytest

from services.catalog.search_rules import (
    MOST_COMPLETIONS,
    Bounds,
    Term,
    bounds,
    corrections,
    is_one_change,
    terms,
    tsquery,
)


def word(lexeme: str, *positions: int, **known: Any) -> dict[str, Any]:
    defaults = {"known": True, "completions": [], "lettered": True, "similar": []}
    return {"lexeme": lexeme, "positions": positions or (1,)} | defaults | known


class TestIsOneChange:
    @pytest.mark.parametrize(
        "typed", ["shirt", "shrt", "shiirt", "shart", "hsirt", "shrit", "shir"]
    )
    def test_a_letter_more_less_or_other_and_two_letters_swapped(self, typed: str) -> None:
        assert is_one_change(typed, "shirt")
        assert is_one_change("shirt", typed)

    @pytest.mark.parametrize("typed", ["shrits", "skart", "hsrit", "sh", "trihs", "shirtss"])
    def test_two_changes_are_too_many(self, typed: str) -> None:
        assert not is_one_change(typed, "shirt")
        assert not is_one_change("shirt", typed)


class TestCorrections:
    def test_short_words_are_taken_as_they_are(self) -> None:
        assert corrections("cot", ["coat"]) == []

    def test_numbers_are_taken_as_they_are(self) -> None:
        assert corrections("ab12", ["ab13"]) == []

    def test_in_long_words_a_letter_may_have_gone_elsewhere(self) -> None:
        assert corrections("espressso", ["espresso"]) == ["espresso"]
        assert corrections("cshmerea", ["cashmere"]) == ["cashmere"]
        assert corrections("olwo", ["wool"]) == []

    def test_there_are_at_most_ten(self) -> None:
        similar = [f"war{letter}" for letter in "abcdefghijklmnop"]
        assert corrections("warz", similar) == similar[:10]


class TestTerms:
    def test_only_the_last_word_may_be_unfinished(self) -> None:
        found = terms([word("scarf", 2, completions=["scarf", "scarfs"]), word("wool", 1)])
        assert found == [Term(("scarf", "scarfs"), completed=True), Term(("wool",))]

    def test_a_word_that_is_repeated_at_the_end_is_the_last_one(self) -> None:
        assert terms([word("wool", 1, 3), word("red", 2)])[0].completed

    def test_what_too_many_words_begin_with_is_unfinished(self) -> None:
        many = [f"sc{number}" for number in range(MOST_COMPLETIONS + 1)]
        assert terms([word("sc", completions=many)]) == [Term(("sc",), unfinished=True)]
        all_of_them = terms([word("sc", completions=many[1:])])
        assert all_of_them == [Term(("sc", *many[1:]), completed=True)]

    def test_numbers_are_not_known_so_they_are_unfinished(self) -> None:
        assert terms([word("44", lettered=False)]) == [Term(("44",), unfinished=True)]

    def test_an_unknown_word_is_looked_for_with_its_corrections(self) -> None:
        found = terms([word("shrit", known=False, similar=["shirt"])])
        assert found == [Term(("shrit", "shirt"), completed=True)]

    def test_a_known_word_is_not_corrected(self) -> None:
        assert terms([word("skirt", similar=["shirt"])]) == [Term(("skirt",), completed=True)]

    def test_a_beginning_is_not_corrected_unless_more_words_follow(self) -> None:
        shi = word("shir", 1, known=False, completions=["shirt"], similar=["shirt"])
        assert terms([shi]) == [Term(("shir", "shirt"), completed=True)]
        assert terms([shi, word("red", 2)])[0] == Term(("shir", "shirt"))

    def test_no_words_are_no_terms(self) -> None:
        assert terms([]) == []


class TestBounds:
    def test_all_words_have_to_be_there(self) -> None:
        words = [
            word("red", cheapest=5, dearest=90, first_name="apron"),
            word("wool", cheapest=20, dearest=300, first_name="blanket"),
        ]
        assert bounds(words, [Term(("red",)), Term(("wool",))]) == (20, 90, "blanket")

    def test_any_of_the_spellings_is_enough(self) -> None:
        others = {"other_cheapest": 7, "other_dearest": 8, "other_first_name": "old"}
        sc = word("sc", cheapest=None, dearest=None, first_name=None, **others)
        assert bounds([sc], [Term(("sc", "scarf"), completed=True)]) == (7, 8, "old")
        assert bounds([sc], [Term(("sc",))]) == Bounds()
        sock = word("sock", cheapest=3, dearest=4, first_name="new", **others)
        assert bounds([sock], [Term(("sock", "socks"), completed=True)]) == (3, 8, "new")

    def test_of_what_may_be_anything_nothing_is_known(self) -> None:
        known = {"cheapest": 5, "dearest": 6, "first_name": "x"}
        assert bounds([word("s", **known)], [Term(("s",), unfinished=True)]) == Bounds()
        assert bounds([word("4", lettered=False, **known)], [Term(("4",))]) == Bounds()


class TestTsquery:
    def test_all_terms_in_any_of_their_spellings(self) -> None:
        searched = [Term(("red",), False), Term(("shrit", "shirt"), True)]
        assert tsquery(searched) == "('red') & ('shrit':* | 'shirt')"
        assert tsquery(searched, "A") == "('red':A) & ('shrit':*A | 'shirt':A)"
