"""What a search looks for, and which typing errors it forgives."""

from __future__ import annotations

from typing import Any

import pytest

from services.catalog.search_rules import Term, corrections, is_one_change, terms, tsquery


def word(lexeme: str, *positions: int, **known: Any) -> dict[str, Any]:
    defaults = {"known": True, "beginnings": 1, "similar": []}
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
        found = terms([word("scarf", 2), word("wool", 1)])
        assert found == [Term(("scarf",), unfinished=True), Term(("wool",), unfinished=False)]

    def test_a_word_that_is_repeated_at_the_end_is_the_last_one(self) -> None:
        assert terms([word("wool", 1, 3), word("red", 2)])[0].unfinished

    def test_an_unknown_word_is_looked_for_with_its_corrections(self) -> None:
        found = terms([word("shrit", known=False, beginnings=0, similar=["shirt"])])
        assert found == [Term(("shrit", "shirt"), unfinished=True)]

    def test_a_known_word_is_not_corrected(self) -> None:
        assert terms([word("skirt", similar=["shirt"])]) == [Term(("skirt",), unfinished=True)]

    def test_a_beginning_is_not_corrected_unless_more_words_follow(self) -> None:
        shi = word("shir", 1, known=False, similar=["shirt"])
        assert terms([shi]) == [Term(("shir",), unfinished=True)]
        assert terms([shi, word("red", 2)])[0] == Term(("shir", "shirt"), unfinished=False)

    def test_no_words_are_no_terms(self) -> None:
        assert terms([]) == []


class TestTsquery:
    def test_all_terms_in_any_of_their_spellings(self) -> None:
        searched = [Term(("red",), False), Term(("shrit", "shirt"), True)]
        assert tsquery(searched) == "('red') & ('shrit':* | 'shirt')"
        assert tsquery(searched, "A") == "('red':A) & ('shrit':*A | 'shirt':A)"
