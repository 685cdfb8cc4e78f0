"""How far a list is looked through before the inverted indexes are asked: pure decisions.

Looking through a list in its order costs the same for every product on the way, and ends when the
page is full: it is right for what many products have. The inverted indexes answer at a cost for
each match: they are right for what few have. How many products have a word is known from Postgres'
statistics, which name the common words with their shares; a word that is not among them is rare.

Times are microseconds, measured at 1,000,000 products. What they say of each other counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from services.catalog.search_rules import Term

# A product on the way. By id they lie side by side in the table, by anything else all over it.
STEP_BY_ID = 0.7
STEP = 2.0
# In a category each product on the way has to be looked up by its id.
STEP_IN_CATEGORY = 5.0
# An entry of an inverted index; one of all words that begin in some way, which are united first.
ENTRY = 0.4
ENTRY_OF_BEGINNING = 1.0
# A match that an inverted index has found, read from the table.
MATCH = 6.0
# Where each step may have to read the disk, this is as far as a call may go in any case.
FARTHEST = 20_000
# How much later than by chance a page of several words may be full.
PATIENCE = 4
# Statistics name up to 1,000 words, and none that less than about 0.15 % of the products have.
# Most of the others are far rarer.
MOST_NAMED = 1000
RARE = 0.0005
RARE_COMPLETION = 0.0001


class Share(NamedTuple):
    """How much of the catalogue has a term, at most, and whether that was a beginning of words."""

    most: float
    unfinished: bool = False


def shares(words: Sequence[Any], terms: Sequence[Term], scope: str) -> list[Share]:
    """The shares of the terms of a search, `everywhere` or in `names`; none if nothing is known."""
    found = []
    for word, term in zip(words, terms, strict=True):
        named = word[f"{scope}_named"]
        if not named:
            return []
        rare = word[f"{scope}_least"] if named >= MOST_NAMED else RARE
        most = max(word[f"{scope}_share"] or 0, rare)
        if term.unfinished or term.completed:
            others = len(word["completions"]) * RARE_COMPLETION
            most = max(most, word[f"{scope}_begun"] or 0) + others
            if not word["lexeme"].isalpha():
                # Of numbers nothing is known: as if all digits were as frequent.
                most = max(most, 10.0 ** -len(word["lexeme"]))
        if len(term.spellings) > 1:
            most = max(most, word[f"{scope}_meant"] or 0)
        found.append(Share(min(most, 1.0), term.unfinished))
    return found


def reach(
    shares: Sequence[Share],
    products: float,
    wanted: int,
    step: float,
    *,
    default: int,
    in_category: bool = False,
    other: bool = False,
) -> int:
    """How many products to look at one by one for `wanted` that have all terms, at `step` each.

    None at all where that costs more than to read every match. Otherwise until it has cost what
    the rest would: with one term that is known beforehand; with several it depends on how often
    they are together, of which each step tells more. Terms that are not found where chance alone
    would have brought them together avoid each other, or the category: then there are few matches.
    With `other` filters, of which nothing is known, `default` is the most.
    """
    rarest = min(share.most for share in shares)
    beginnings = sum(share.most for share in shares if share.unfinished)
    index = (ENTRY * rarest + ENTRY_OF_BEGINNING * beginnings) * products
    every = index + MATCH * rarest * products
    if step * wanted > rarest * every:
        return 0
    if other:
        return default
    by_chance = PATIENCE * wanted / math.prod(share.most for share in shares)
    if in_category:
        far = min(by_chance, default)
    elif len(shares) == 1:
        far = every / step
    else:
        # After r steps without a full page there are at most wanted / r of all: step * r is then
        # to be index + MATCH * products * wanted / r.
        far = (index + math.sqrt(index**2 + 4 * step * MATCH * products * wanted)) / (2 * step)
        far = min(far, by_chance)
    return math.ceil(min(far, products if step == STEP_BY_ID else min(products, FARTHEST)))
