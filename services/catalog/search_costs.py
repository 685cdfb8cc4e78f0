"""In which way a list is looked through: pure decisions.

Looking at one product after the other, in the order of the list, costs the same for each on the
way, and ends when the page is full: it is right for what many products have. The inverted index
answers at a cost for each match: it is right for what few have. Between the two it is asked for a
span of the list, as many products as should hold the page.

How many products have a word, a category or a facet is known from Postgres' statistics
(`search_statistics`). Times are microseconds, measured at 1,000,000 products. What they say of each
other counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from services.catalog.search_rules import Term
from services.catalog.search_statistics import RARE, RARE_COMPLETION, Shares

# A product on the way. By id they lie side by side in the table, by anything else all over it.
STEP_BY_ID = 0.7
STEP = 2.0
# In a category each product on the way has to be looked up by its id.
STEP_IN_CATEGORY = 5.0
# An entry of the inverted index; one of all words that begin in some way, which are united first.
ENTRY = 0.3
ENTRY_OF_BEGINNING = 1.0
# A product of a span, which keeps the index from reading those behind.
ENTRY_OF_SPAN = 0.01
# What more products have is not asked of it.
MOST_SOUGHT = 0.4
# What it takes to ask the index at all.
ASK = 150.0
# A match that the inverted index has found, read from the table.
MATCH = 6.0
# Where each step may have to read the disk, this is as far as a call may go in any case.
FARTHEST = 20_000
# How much later than by chance a page of several terms may be full.
PATIENCE = 4
# A larger part is not asked for apart.
MOST_OF_ALL = 0.5
# How much more the index may cost than what is on the way by chance, if that may turn out wrong.
CAUTION = 3


class Share(NamedTuple):
    """How much of the catalogue has a term, at most, and whether that was a beginning of words."""

    most: float
    unfinished: bool = False


class Way(NamedTuple):
    """The next `reach` products one by one; or those of a span, this `share` of all, by the index.

    With neither, and where they do not fill the page, every match is read.
    """

    reach: int = 0
    share: float = 0.0


EVERY = Way()


def of_words(words: Sequence[Any], terms: Sequence[Term], known: Shares) -> list[Share]:
    """The shares of the terms of a search, by those of words."""
    found = []
    for word, term in zip(words, terms, strict=True):
        lexeme = word["lexeme"]
        most = known.of(lexeme)
        if term.unfinished or term.completed:
            most = max(most, known.begun(lexeme)) + len(word["completions"]) * RARE_COMPLETION
            if not lexeme.isalpha():
                # Of numbers nothing is known: as if all digits were as frequent.
                most = max(most, 10.0 ** -len(lexeme))
        elif len(term.spellings) > 1:
            most = max(most, sum(known.of(spelling) for spelling in term.spellings[1:]))
        found.append(Share(min(most, 1.0), term.unfinished))
    return found


def of_one(terms: Iterable[str], known: Shares) -> Share:
    """The share of what has one of the terms."""
    return Share(min(sum(known.of(term) for term in terms), 1.0))


def sought(shares: Sequence[Share]) -> list[bool]:
    """Which of the terms the index is asked for; the matches are asked for all of them.

    Not for beginnings, as it would have to unite what begins so, first; and not for what most
    products have, of which it would read every entry. Unless it knows nothing else.
    """
    finds = [share.most <= MOST_SOUGHT and not share.unfinished for share in shares]
    if any(finds):
        return finds
    best = min(shares, key=lambda share: (share.unfinished, share.most))
    return [share is best for share in shares]


def way(
    shares: Sequence[Share],
    products: float,
    wanted: int,
    step: float,
    *,
    default: int,
    by_id: bool = False,
    category: Share | None = None,
    kept: float = 1.0,
) -> Way:
    """How to find `wanted` products that have all terms, at `step` for each on the way.

    One after the other, until that has cost what the rest would: with one term that is known
    beforehand; with several it depends on how often they are together, of which each step tells
    more. Spans are those of ids. In a `category` `default` is the farthest: what it does not soon
    show it hardly has. The share `kept` has a filter that the index does not know.
    """
    on_the_way = kept * math.prod(share.most for share in shares)
    if not shares:
        # Another index has them.
        is_rare = step * wanted > on_the_way * (ASK + MATCH * kept * products)
        return EVERY if is_rare else Way(default)
    every_term = [*shares, category] if category else shares
    together = kept * math.prod(share.most for share in every_term)
    asked = [share for share, asks in zip(every_term, sought(every_term), strict=True) if asks]
    rarest = min(share.most for share in asked)
    beginnings = sum(share.most for share in asked if share.unfinished)
    entry = ENTRY * rarest + ENTRY_OF_BEGINNING * beginnings
    index = ASK + entry * products
    every = index + MATCH * math.prod(share.most for share in asked) * products
    # Several terms may avoid each other, as one of them cannot.
    steps = step * wanted / on_the_way * (CAUTION if len(every_term) > 1 or kept < 1 else 1)
    if by_id:
        each = (entry + ENTRY_OF_SPAN) * products
        enough = PATIENCE * wanted / (together * products)
        if enough < MOST_OF_ALL and ASK + each * enough + MATCH * PATIENCE * wanted < min(
            every / 2, steps
        ):
            return Way(share=enough)
        # Words of one search are often together: maybe a small part has enough of them. Of rare
        # ones it is only known that they are not common.
        some = (every / 4 - ASK - MATCH * wanted) / each
        hoped = math.sqrt(together * kept * rarest) * products
        is_worth_it = rarest > 2 * RARE and every / 4 < steps
        if is_worth_it and wanted / 8 < hoped * some < hoped * MOST_OF_ALL:
            return Way(share=some)
    if steps > every:
        return EVERY
    if category:
        far = min(PATIENCE * wanted / on_the_way, default)
    elif len(shares) == 1 and kept == 1:
        far = every / step
    else:
        # After r steps without a full page there are at most wanted / r of all: step * r is then
        # to be index + MATCH * products * wanted / r.
        far = (index + math.sqrt(index**2 + 4 * step * MATCH * products * wanted)) / (2 * step)
        far = min(far, PATIENCE * wanted / on_the_way)
    return Way(math.ceil(min(far, products if step == STEP_BY_ID else min(products, FARTHEST))))
