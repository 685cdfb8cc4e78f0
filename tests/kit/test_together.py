"""Writes that wait together: what shares a statement, and who hears of what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from services.kit import call
from services.kit.together import LARGEST, Together


class Table:
    """Where numbers are doubled; odd ones and `slow` ones are not as easy."""

    def __init__(self) -> None:
        self.statements: list[list[int]] = []
        self.go_on = asyncio.Event()
        self.slow: set[int] = set()
        self.refused: set[int] = set()
        self.together = Together(self._write)

    async def _write(self, numbers: Sequence[int]) -> list[int]:
        self.statements.append(list(numbers))
        if self.slow & set(numbers):
            await self.go_on.wait()
        await asyncio.sleep(0.002)
        if self.refused & set(numbers):
            raise asyncpg.LockNotAvailableError
        return [2 * number for number in numbers]


async def test_at_rest_a_write_is_made_alone() -> None:
    table = Table()
    assert [await table.together.do(number) for number in (1, 2)] == [2, 4]
    assert table.statements == [[1], [2]]


async def test_what_waits_for_a_statement_shares_the_next_one() -> None:
    table = Table()
    assert await asyncio.gather(*map(table.together.do, range(10))) == list(range(0, 20, 2))
    assert table.statements == [[0], list(range(1, 10))]


async def test_a_statement_writes_only_so_many() -> None:
    table = Table()
    await asyncio.gather(*map(table.together.do, range(2 * LARGEST)))
    assert [len(each) for each in table.statements] == [1, LARGEST, LARGEST - 1]


async def test_what_is_refused_for_all_is_tried_for_each() -> None:
    table = Table()
    table.refused = {3}
    done = await asyncio.gather(*map(table.together.do, range(5)), return_exceptions=True)
    assert [done[number] for number in (0, 1, 2, 4)] == [0, 2, 4, 8]
    assert isinstance(done[3], asyncpg.LockNotAvailableError)


async def test_what_takes_long_keeps_nobody_waiting() -> None:
    table = Table()
    table.slow = {0}
    waiting = asyncio.create_task(table.together.do(0))
    assert await asyncio.gather(*map(table.together.do, range(1, 4))) == [2, 4, 6]
    assert not waiting.done()
    table.go_on.set()
    assert await waiting == 0


async def test_a_call_that_is_cancelled_takes_none_with_it() -> None:
    table = Table()
    tasks = [asyncio.create_task(table.together.do(number)) for number in range(4)]
    await asyncio.sleep(0)
    for task in tasks[:2]:
        task.cancel()
    assert await asyncio.gather(*tasks[2:]) == [4, 6]
    for task in tasks[:2]:
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_what_comes_together_shares_a_statement_from_the_first() -> None:
    table = Table()
    assert await table.together.do_all(range(4)) == [0, 2, 4, 6]
    assert await table.together.do_all([]) == []
    assert table.statements == [[0, 1, 2, 3]]


async def test_what_comes_together_hears_of_each_why_it_was_not_written() -> None:
    table = Table()
    table.refused = {2}
    one, other, last = await table.together.do_all([1, 2, 3])
    assert (one, last) == (2, 6)
    assert isinstance(other, asyncpg.LockNotAvailableError)


async def test_a_result_may_say_why_its_item_was_not_written() -> None:
    async def write(numbers: Sequence[int]) -> list[int | Exception]:
        return [ValueError("odd") if number % 2 else number for number in numbers]

    together: Together[int, int] = Together(write)
    done = await asyncio.gather(*map(together.do, range(4)), return_exceptions=True)
    assert [done[0], done[2]] == [0, 2]
    assert [type(done[1]), type(done[3])] == [ValueError, ValueError]


async def test_each_call_knows_that_it_has_written() -> None:
    table = Table()

    async def written(number: int) -> bool:
        call.begin(call.Call("/shop.v1.Things/Write", str(number)))
        await table.together.do(number)
        return call.current().committed

    assert await asyncio.gather(*(asyncio.create_task(written(n)) for n in range(3))) == [True] * 3
