"""Spans of ids: that no product of them is missing from their cells."""

from __future__ import annotations

import random
from collections.abc import Iterator
from uuid import UUID

import pytest

from services.catalog.search_spans import PARTS, PRECISIONS, before, parts
from services.catalog.search_statistics import NOTHING

LAST = UUID(int=2**128 - 1)
# 2026, in milliseconds.
THEN = 1_790_000_000_000


def made(milliseconds: int, rest: int = 0) -> UUID:
    return UUID(int=milliseconds << 80 | rest)


def cells(id: UUID) -> set[int]:
    """What `catalog.moments` says."""
    return {(id.int >> 80 >> bits) << 6 | bits for bits in PRECISIONS}


# A product an hour, of which every hundredth is known.
IDS = [made(THEN + number * 3_600_000) for number in range(0, 10_001, 100)]


def products() -> Iterator[UUID]:
    luck = random.Random(5)
    return (made(THEN + number * 3_600_000, luck.getrandbits(80)) for number in range(10_000))


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.1, 0.4])
@pytest.mark.parametrize("id", [LAST, IDS[90], made(THEN + 32_400_123_456)])
def test_a_span_has_all_products_from_its_first_to_its_last(id: UUID, share: float) -> None:
    span = before(id, share, IDS)
    assert span is not None
    inside = [one for one in products() if span.since <= one < min(span.until, id)]
    assert all(cells(one) & set(span.cells) for one in inside)
    assert len(inside) == pytest.approx(share * 10_000, abs=3)
    assert len(span.cells) < 100
    assert span.since < min(span.until, id)


@pytest.mark.parametrize("id", [LAST, IDS[90]])
def test_its_parts_follow_each_other_and_are_all_of_it(id: UUID) -> None:
    found = parts(id, 0.4, IDS)
    assert found is not None
    read, end = 0, min(found[0].until, id)
    for part, share in zip(found, PARTS, strict=True):
        inside = [one for one in products() if part.since <= one < end]
        assert all(cells(one) & set(part.cells) for one in inside)
        read, end = read + len(inside), part.since
        assert read == pytest.approx(share * 4_000, abs=5)


def test_a_span_ends_at_the_page_or_where_new_products_may_be() -> None:
    assert before(IDS[50], 0.1, IDS).until > IDS[50]  # type: ignore[union-attr]
    until = before(LAST, 0.1, IDS).until  # type: ignore[union-attr]
    assert IDS[-1] < until < LAST


def test_there_is_none_where_the_list_has_not_so_many() -> None:
    assert before(IDS[10], 0.2, IDS) is None
    assert parts(IDS[10], 0.2, IDS) is None
    assert before(IDS[0], 0.01, IDS) is None
    assert before(LAST, 0.1, NOTHING.ids) is None
