"""What a cache keeps, and what it must not."""

from __future__ import annotations

import time

import pytest

from services.kit import cache
from services.kit.cache import Cache

Kept = Cache[bytes]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time as the cache sees it."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def kept(clock: list[float]) -> Kept:
    return Cache(seconds=5, most_bytes=100, size=len)


def put(kept: Kept, key: str, *things: int, value: bytes = b"value") -> None:
    kept.put(key, value, things, kept.moment())


def test_an_entry_lives_for_its_time_and_no_longer(kept: Kept, clock: list[float]) -> None:
    put(kept, "a", 1)
    clock[0] += 4.9
    assert kept.get("a") == b"value"
    clock[0] += 0.2
    assert kept.get("a") is None


def test_a_change_takes_every_entry_that_tells_of_it(kept: Kept) -> None:
    put(kept, "a", 1, 2)
    put(kept, "b", 2, 3)
    put(kept, "c", 3)
    kept.forget([2])
    assert [kept.get(key) for key in "abc"] == [None, None, b"value"]
    put(kept, "a", 1, 2)
    assert kept.get("a") == b"value"


def test_what_changed_while_it_was_looked_up_is_not_kept(kept: Kept) -> None:
    looked_up = kept.moment()
    kept.forget([1])
    kept.put("a", b"old", [1], looked_up)
    kept.put("b", b"still right", [2], looked_up)
    assert (kept.get("a"), kept.get("b")) == (None, b"still right")


def test_nothing_that_was_looked_up_before_it_was_cleared_is_kept(kept: Kept) -> None:
    put(kept, "a", 1)
    looked_up = kept.moment()
    kept.clear()
    kept.put("b", b"old", [2], looked_up)
    assert (kept.get("a"), kept.get("b")) == (None, None)


def test_changes_that_are_too_many_to_know_count_as_changes_of_everything(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "REMEMBERED_CHANGES", 3)
    looked_up = kept.moment()
    kept.forget([1])
    kept.forget([2, 3, 4])
    kept.put("a", b"old", [1], looked_up)
    assert kept.get("a") is None
    put(kept, "a", 1)
    assert kept.get("a") == b"value"


def test_the_oldest_go_when_there_is_no_room(kept: Kept) -> None:
    for number in range(5):
        put(kept, str(number), number, value=bytes(30))
    assert [kept.get(str(number)) is not None for number in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    put(kept, "2", 2, value=bytes(60))  # in its own place: no room is counted twice
    assert [kept.get(str(number)) is not None for number in range(5)] == [
        False,
        False,
        True,
        False,
        True,
    ]


def test_what_has_no_room_at_all_is_not_kept(kept: Kept) -> None:
    put(kept, "a", 1, value=bytes(101))
    assert kept.get("a") is None
    put(kept, "b", 1, value=bytes(100))
    assert kept.get("b") == bytes(100)


def test_what_is_still_true_is_kept_for_another_while(kept: Kept, clock: list[float]) -> None:
    for key in ("true", "other", "gone", "unasked"):
        kept.put(key, b"value", [key], kept.moment(), version=1)
    kept.put("unknown", b"value", ["unknown"], kept.moment())
    clock[0] += 2
    assert kept.ending(1) == {}
    assert kept.ending(4).keys() == {"true", "other", "gone", "unasked", "unknown"}
    kept.confirm({"true": 1, "other": 2, "gone": None, "unknown": None}, asked=clock[0])
    clock[0] += 4
    assert [kept.get(key) for key in ("true", "other", "gone", "unasked", "unknown")] == [
        b"value",
        None,
        None,
        None,
        None,
    ]
    clock[0] += 2
    assert kept.get("true") is None


def test_what_nobody_asks_for_is_not_kept_for_ever(kept: Kept, clock: list[float]) -> None:
    kept.put("a", b"value", [1], kept.moment(), version=1)
    for _ in range(cache.MOST_IDLE):
        assert kept.ending(10).keys() == {"a"}
        kept.confirm({"a": 1}, asked=clock[0])
    assert kept.ending(10) == {}
    kept.get("a")
    assert kept.ending(10).keys() == {"a"}


def test_what_is_over_and_nobody_asks_for_is_dropped(kept: Kept, clock: list[float]) -> None:
    for number in range(3):
        put(kept, str(number), number, 7, value=bytes(30))
    clock[0] += 9
    put(kept, "new", 7)
    assert kept.ending(1).keys() == {"0", "1", "2"}  # who asks may be late
    clock[0] += 2
    assert kept.ending(1) == {}
    assert len(kept) == 1
    assert kept.get("new") == b"value"
    put(kept, "large", 8, value=bytes(90))  # there is room for it again
    assert kept.get("new") == b"value"


def test_what_was_forgotten_meanwhile_is_not_brought_back(kept: Kept, clock: list[float]) -> None:
    kept.put("a", b"value", [1], kept.moment(), version=1)
    kept.forget([1])
    kept.confirm({"a": 1}, asked=clock[0])
    assert kept.get("a") is None
    kept.put("a", b"value", [1], kept.moment(), version=2)
    kept.confirm({"a": 1}, asked=clock[0] + 100)
    clock[0] += 6
    assert kept.get("a") is None


def test_what_is_confirmed_is_among_the_last_to_go(kept: Kept, clock: list[float]) -> None:
    for number in range(3):
        kept.put(str(number), bytes(30), [number], kept.moment(), version=1)
    kept.confirm({"0": 1}, asked=clock[0])
    put(kept, "3", 3, value=bytes(30))
    assert [kept.get(str(number)) is not None for number in range(4)] == [True, False, True, True]
