"""Background work: it goes on, whatever happens to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from services.kit import tasks
from tests.kit.waiting import until


class Work:
    """Work that notes its turns, and fails at some."""

    def __init__(self, *failing: int) -> None:
        self.turns = 0
        self._failing = failing

    async def __call__(self) -> None:
        self.turns += 1
        if self.turns in self._failing:
            raise ValueError("a bug")

    async def reached(self, turns: int) -> None:
        await until(lambda: self.turns >= turns)


@contextlib.asynccontextmanager
async def running(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    async def run() -> None:
        await work()

    task = asyncio.create_task(run())
    yield
    assert not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "LONGEST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(tasks, "FIRST_PAUSE_SECONDS", 0.01)


async def test_work_that_fails_is_started_again() -> None:
    work = Work(1, 2)
    async with running(lambda: tasks.forever("work", work)):
        await work.reached(4)


async def test_work_that_is_done_again_and_again_survives_a_failure() -> None:
    work = Work(2)
    async with running(tasks.every(0.01, work)):
        await work.reached(4)


async def test_it_waits_between_turns() -> None:
    work = Work()
    async with running(tasks.every(20, work)):
        await work.reached(1)
        await asyncio.sleep(0.05)
        assert work.turns == 1


async def test_cancelling_ends_it() -> None:
    work = Work()
    task = asyncio.create_task(tasks.forever("work", work))
    await work.reached(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
