"""Look-ups that wait together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from services.kit.batches import LARGEST, Batch


class Shelf:
    """Something to look up in, which takes its time, and notes what was asked for at once."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.values: dict[int, str] = {}
        self.broken = False

    async def fetch(self, keys: Sequence[int]) -> dict[int, str]:
        self.asked.append(list(keys))
        seen = dict(self.values)
        await asyncio.sleep(0.005)
        if self.broken:
            raise OSError("the shelf is broken")
        return {key: seen[key] for key in keys if key in seen}


async def test_one_alone_is_looked_up_at_once() -> None:
    shelf = Shelf()
    shelf.values[1] = "one"
    assert await Batch(shelf.fetch).get(1) == "one"
    assert await Batch(shelf.fetch).get(2) is None
    assert shelf.asked == [[1], [2]]


async def test_those_who_come_meanwhile_wait_together() -> None:
    shelf = Shelf()
    shelf.values = {number: str(number) for number in range(50)}
    batch = Batch(shelf.fetch)
    answers = await asyncio.gather(*(batch.get(number % 50) for number in range(80)))
    assert answers == [str(number % 50) for number in range(80)]
    assert len(shelf.asked) <= 2


async def test_a_batch_is_bounded() -> None:
    shelf = Shelf()
    batch = Batch(shelf.fetch)
    await asyncio.gather(*(batch.get(number) for number in range(3 * LARGEST)))
    assert max(len(keys) for keys in shelf.asked) == LARGEST
    # ... but one call's keys stay together.
    await asyncio.gather(*(batch.get_all(range(2 * LARGEST)) for _ in range(2)))
    assert [len(keys) for keys in shelf.asked[-2:]] == [2 * LARGEST] * 2


async def test_several_keys_are_looked_up_together_and_each_call_gets_its_own() -> None:
    shelf = Shelf()
    shelf.values = {number: str(number) for number in range(10)}
    batch = Batch(shelf.fetch)
    answers = await asyncio.gather(*(batch.get_all([n, n + 1, 99]) for n in (0, 1, 2, 8, 9)))
    assert answers == [
        {0: "0", 1: "1"},
        {1: "1", 2: "2"},
        {2: "2", 3: "3"},
        {8: "8", 9: "9"},
        {9: "9"},
    ]
    assert shelf.asked == [[0, 1, 99], [1, 2, 99, 3, 8, 9, 10]]
    assert await batch.get_all([]) == {}
    assert len(shelf.asked) == 2


async def test_alone_it_is_part_of_the_call_that_asks() -> None:
    context: ContextVar[str] = ContextVar("context", default="none")
    seen: list[str] = []

    async def fetch(keys: Sequence[int]) -> dict[int, str]:
        seen.append(context.get())
        await asyncio.sleep(0.005)
        return {}

    batch = Batch(fetch)

    async def ask(name: str) -> None:
        context.set(name)
        await batch.get(1)

    await asyncio.gather(*(asyncio.create_task(ask(name)) for name in ("first", "second")))
    assert seen == ["first", "none"]


async def test_an_answer_is_never_older_than_its_question() -> None:
    shelf = Shelf()
    batch = Batch(shelf.fetch)
    first = asyncio.create_task(batch.get(1))
    await asyncio.sleep(0.001)  # the statement runs, and has seen the shelf empty
    shelf.values[1] = "new"
    assert await batch.get(1) == "new"
    assert await first is None


async def test_one_who_goes_away_takes_nothing_from_the_others() -> None:
    shelf = Shelf()
    shelf.values[1] = "one"
    batch = Batch(shelf.fetch)
    leaving, staying = (asyncio.create_task(batch.get(1)) for _ in range(2))
    await asyncio.sleep(0.001)
    leaving.cancel()
    assert await staying == "one"
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_a_failure_is_everybodys_and_the_next_look_up_is_made_anew() -> None:
    shelf = Shelf()
    batch = Batch(shelf.fetch)
    shelf.broken = True
    answers = await asyncio.gather(*(batch.get(1) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [OSError] * 3
    shelf.broken = False
    assert await batch.get(1) is None
