"""Spans of products in the order of their ids, as the inverted index finds them.

An id begins with the moment when it was made (UUIDv7). The index holds the moment of each product
in several precisions, so a few of its entries stand for any span of time: with them, it reads the
words, facets and categories of that span alone.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

# As `catalog.moments` has them: milliseconds, in powers of two.
PRECISIONS = (10, 14, 18, 22, 26, 30, 34, 38)
# Cells of the smallest precision, about.
MOST_FINE = 16
# Behind the bits of a moment in an id; and of the precision, in a cell.
_ID_BITS = 80
_PRECISION_BITS = 6
# How far clocks may be ahead of ours.
_AHEAD_MILLISECONDS = 60_000
_LAST = 2**128 - 1


# A span is read up to here, and further where that was not enough: words of one search are together
# more often than by chance.
PARTS = (1 / 6, 1 / 3, 1)


class Span(NamedTuple):
    """Products from the id `since` up to, and without, `until`: all are in one of the `cells`."""

    since: UUID
    until: UUID
    cells: list[int]


def before(id: UUID, share: float, ids: Sequence[UUID]) -> Span | None:
    """The span of about this `share` of the products that ends before `id`, the newest first.

    By `ids` that part all products evenly. None if there are not so many before it. Where `id` is
    in the future, the span ends soon after now; who uses it has to see that nothing is behind.
    """
    if len(ids) < 2:
        return None
    last = len(ids) - 1
    place = _place(id, ids) - share * last
    if place <= 0:
        return None
    lower = int(place)
    low, high = ids[lower].int, ids[min(lower + 1, last)].int
    since = low + int((high - low) * (place - lower))
    now = int(time.time() * 1000) + _AHEAD_MILLISECONDS
    newest = ids[last].int >> _ID_BITS
    wanted = id.int >> _ID_BITS
    cells, end = _cells(since >> _ID_BITS, min(wanted, newest), min(wanted, max(newest, now)))
    return Span(UUID(int=since), UUID(int=min(end << _ID_BITS, _LAST)), cells)


def parts(id: UUID, share: float, ids: Sequence[UUID]) -> list[Span] | None:
    """Such a span in parts, the newest first: each ends before the `since` of the one before."""
    found: list[Span] = []
    for start, end in zip((0, *PARTS), PARTS, strict=False):
        part = before(found[-1].since if found else id, share * (end - start), ids)
        if part is None:
            return None
        found.append(part)
    return found


def _cells(first: int, dense: int, last: int) -> tuple[list[int], int]:
    """Cells with all moments from `first` to `last`, and where they end.

    They are small up to `dense`. Behind there are few products, or none, but maybe a long time: so
    they get larger, as soon as they stay inside.
    """
    level, moment = 0, first
    while (dense - first) >> PRECISIONS[level] > MOST_FINE and level + 1 < len(PRECISIONS):
        level += 1
    cells: list[int] = []
    while moment <= last:
        bits = PRECISIONS[level]
        moment = moment >> bits << bits
        if level + 1 < len(PRECISIONS):
            larger = 1 << PRECISIONS[level + 1]
            if moment >= dense and moment % larger == 0 and moment + larger <= last:
                level += 1
                continue
        cells.append(moment >> bits << _PRECISION_BITS | bits)
        moment += 1 << bits
    return cells, moment


def _place(id: UUID, ids: Sequence[UUID]) -> float:
    """How many of the even parts are before `id`."""
    following = bisect_left(ids, id)
    if following in (0, len(ids)):
        return float(min(following, len(ids) - 1))
    low, high = ids[following - 1].int, ids[following].int
    return following - 1 + (id.int - low) / (high - low)
