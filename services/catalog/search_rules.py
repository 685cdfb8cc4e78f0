"""What words a search looks for: pure decisions about prefixes and typing errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

LARGEST_PRICE = 2**63 - 1
# With more words that begin so, a beginning is looked for as such.
MOST_COMPLETIONS = 32
# Shorter words have too many neighbours to guess which one was meant.
SHORTEST_CORRECTED = 4
# In words from this length on, a letter may also have gone to any other place.
LONG = 8
MOST_CORRECTIONS = 10


class Term(NamedTuple):
    """One word to look for: any of `spellings`.

    An `unfinished` one may go on in any way behind the first of them. A `completed` one had words
    for its spellings that it may become.
    """

    spellings: tuple[str, ...]
    unfinished: bool = False
    completed: bool = False


def terms(words: Sequence[Any]) -> list[Term]:
    """The terms of a search, from its `words` with what is known of them.

    A word has its `lexeme`, its `positions` in the search, whether it is `known` as a word of some
    product, the known words that begin with it (`completions`: all of them if it is `lettered` and
    there are no more than `MOST_COMPLETIONS`), and the `similar` known words. Only words that
    nobody knows are taken for typing errors; they are looked for all the same, as they may stand
    in a SKU.
    """
    last = max((max(word["positions"]) for word in words), default=0)
    found = []
    for word in words:
        lexeme, completions = word["lexeme"], word["completions"]
        unfinished = last in word["positions"]
        completed = unfinished and word["lettered"] and len(completions) <= MOST_COMPLETIONS
        spellings = [lexeme]
        if completed:
            # An index finds some words at once, and a beginning by uniting all that follow.
            spellings += [one for one in completions if one != lexeme]
        if not word["known"] and not (unfinished and completions):
            spellings += corrections(lexeme, word["similar"])
        found.append(Term(tuple(spellings), unfinished and not completed, completed))
    return found


class Bounds(NamedTuple):
    """Prices that some products are between, and a name that none of theirs comes before."""

    cheapest: int = 0
    dearest: int = LARGEST_PRICE
    first_name: str = ""


def bounds(words: Sequence[Any], searched: Sequence[Term]) -> Bounds:
    """What is known of where all products with the terms are.

    A word has its own `cheapest`, `dearest` and `first_name`, and those of its completions and
    similar words (`other_…`), None where there is none.
    """
    found = Bounds()
    for word, term in zip(words, searched, strict=True):
        if term.unfinished or not word["lettered"]:
            continue
        of = ("", "other_") if len(term.spellings) > 1 else ("",)
        known = [whose for whose in of if word[f"{whose}cheapest"] is not None]
        if known:
            found = Bounds(
                max(found.cheapest, min(word[f"{whose}cheapest"] for whose in known)),
                min(found.dearest, max(word[f"{whose}dearest"] for whose in known)),
                max(found.first_name, min(word[f"{whose}first_name"] for whose in known)),
            )
    return found


def corrections(word: str, similar: Sequence[str]) -> list[str]:
    """Those of the `similar` words, equal but for one letter of each, that `word` may stand for."""
    if len(word) < SHORTEST_CORRECTED or not word.isalpha():
        return []
    meant = [other for other in similar if len(word) >= LONG or is_one_change(word, other)]
    return sorted(meant)[:MOST_CORRECTIONS]


def is_one_change(one: str, other: str) -> bool:
    """Whether a letter more, less or other, or two letters swapped, makes one word of the other."""
    if len(one) > len(other):
        one, other = other, one
    start = 0
    while start < len(one) and one[start] == other[start]:
        start += 1
    one, other = one[start:], other[start:]
    if len(one) < len(other):
        return one == other[1:]
    return one[1:] == other[1:] or (one[1::-1] == other[:2] and one[2:] == other[2:])


def tsquery(searched: Sequence[Term], weight: str = "") -> str:
    """The terms as Postgres' tsquery; `weight` A looks in names alone.

    A lexeme is letters and digits, so nothing in it has a meaning in a tsquery.
    """
    return " & ".join("(" + " | ".join(_lexemes(term, weight)) + ")" for term in searched)


def _lexemes(term: Term, weight: str) -> Iterator[str]:
    for index, spelling in enumerate(term.spellings):
        label = ("*" if term.unfinished and index == 0 else "") + weight
        yield f"'{spelling}':{label}" if label else f"'{spelling}'"
