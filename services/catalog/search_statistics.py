"""What Postgres' statistics say of the catalogue: what its products have in common, and their ids.

They choose the way in which a list is looked through, and nothing else: what is on a page follows
from the rows alone. So they may be as old as the last ANALYZE, and a process asks once a minute.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from services.kit.db import Connection, Database, Statement

SECONDS_BETWEEN = 60.0
# Statistics name up to 1,000 terms, and none that less than about 0.15 % of the products have.
# Most of the others are far rarer.
MOST_NAMED = 1000
RARE = 0.0005
RARE_COMPLETION = 0.0001


class Shares:
    """What share of the products has a term: a word, a word of its name, a category, a facet."""

    def __init__(self, named: Mapping[str, float]) -> None:
        self.named = named
        self._sorted = sorted(named)
        self._least = min(named.values()) if len(named) >= MOST_NAMED else RARE

    def __bool__(self) -> bool:
        """Whether anything is known."""
        return bool(self.named)

    def of(self, term: str) -> float:
        """The share of a term; at most so much, if it is not named."""
        return max(self.named.get(term, 0.0), self._least)

    def begun(self, beginning: str) -> float:
        """The shares of all named terms that begin so, added up."""
        total = 0.0
        for term in self._sorted[bisect_left(self._sorted, beginning) :]:
            if not term.startswith(beginning):
                break
            total += self.named[term]
        return total


class Prices(NamedTuple):
    """The shares of common prices, and prices that part all others evenly."""

    common: Mapping[int, float]
    parts: Sequence[int]

    def between(self, cheapest: int, dearest: int) -> float:
        """The share of the products with a price from `cheapest` to `dearest`; 1 if unknown."""
        if not self.common and not self.parts:
            return 1.0
        share = sum(one for price, one in self.common.items() if cheapest <= price <= dearest)
        if self.parts:
            inside = bisect_right(self.parts, dearest) - bisect_left(self.parts, cheapest)
            others = max(1 - sum(self.common.values()), 0.0)
            share += others * min(max(inside, 0) + 0.5, len(self.parts)) / len(self.parts)
        return min(share, 1.0)


class Known(NamedTuple):
    """How many products there are, the shares of their terms, their prices, and ids that part all
    evenly.
    """

    products: float
    everywhere: Shares
    names: Shares
    categories: Shares
    facets: Shares
    ids: Sequence[UUID]
    prices: Prices


def known(rows: Iterable[Any]) -> Known:
    """From rows of kind, value and share."""
    products = 0.0
    ids: list[UUID] = []
    parts: list[int] = []
    shares: dict[str, dict[str, float]] = defaultdict(dict)
    for kind, value, share in rows:
        if kind == "products":
            products = share
        elif kind == "id":
            ids.append(UUID(value))
        elif kind == "price" and share is None:
            parts.append(int(value))
        else:
            shares[kind][value] = share
    of = {kind: Shares(shares[kind]) for kind in ("word", "name", "category", "facet")}
    common = {int(price): share for price, share in shares["price"].items()}
    prices = Prices(common, sorted(parts))
    return Known(products, of["word"], of["name"], of["category"], of["facet"], sorted(ids), prices)


NOTHING = known([])

_COMMON = Statement(
    sa.select(
        sa.func.catalog.common_terms().table_valued(
            sa.column("kind", sa.Text), sa.column("value", sa.Text), sa.column("share", sa.Float)
        )
    )
)


async def read(connection: Connection) -> Known:
    """What is known now."""
    return known(await _COMMON.all(connection))


class Statistics:
    """What was `known` a minute ago, at most; nothing before the first `refresh`."""

    known: Known = NOTHING

    def __init__(self, database: Database) -> None:
        self._database = database

    async def refresh(self) -> None:
        """For a background task: calls do not wait for it."""
        async with self._database.connection() as connection:
            self.known = await read(connection)
