"""One timer for the deadlines of all calls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.kit.deadlines import Deadlines
from tests.kit.waiting import AT_ONCE


async def sleep(seconds: float, context: Any) -> float:
    await asyncio.sleep(seconds)
    return seconds


def keep(deadlines: Deadlines, until: float, seconds: float) -> asyncio.Task[Any]:
    at = asyncio.get_running_loop().time() + until
    return asyncio.create_task(deadlines.keep(at, sleep, seconds, None))


async def test_what_is_in_time_is_answered_and_what_is_late_is_not() -> None:
    deadlines = Deadlines()
    # The second is due before the first one's timer, the third sets a new one behind it.
    tasks = [keep(deadlines, 30, 0.05), keep(deadlines, 0.1, 60), keep(deadlines, 0.2, 60)]
    await asyncio.sleep(0)
    assert len(deadlines) == 3
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), AT_ONCE)
    assert outcomes[0] == 0.05
    assert [type(outcome) for outcome in outcomes[1:]] == [TimeoutError, TimeoutError]
    assert len(deadlines) == 0


async def test_after_a_quiet_time_deadlines_are_kept_again() -> None:
    deadlines = Deadlines()
    assert await keep(deadlines, 0.5, 0) == 0
    await asyncio.sleep(0.6)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(keep(deadlines, 0.05, 60), AT_ONCE)


@pytest.mark.parametrize("until", [-0.01, 0.0, 0.0001])
async def test_beside_a_call_whose_time_is_up_as_it_comes_others_are_answered(until: float) -> None:
    deadlines = Deadlines()
    late, other = keep(deadlines, until, 60), keep(deadlines, 30, 0.01)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(late, AT_ONCE)
    assert await asyncio.wait_for(other, AT_ONCE) == 0.01
    assert len(deadlines) == 0


async def test_a_call_that_goes_on_after_its_time_is_cancelled_once() -> None:
    deadlines, cancelled = Deadlines(), 0

    async def stubborn(request: Any, context: Any) -> str:
        nonlocal cancelled
        for _ in range(10):
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                cancelled += 1
        return "done"

    at = asyncio.get_running_loop().time() + 0.01
    assert await asyncio.create_task(deadlines.keep(at, stubborn, None, None)) == "done"
    assert cancelled == 1


async def test_who_is_cancelled_by_somebody_else_is_not_said_to_be_late() -> None:
    deadlines = Deadlines()
    task = keep(deadlines, 60, 60)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(deadlines) == 0
