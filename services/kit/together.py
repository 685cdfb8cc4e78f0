"""Writes that wait together: while a statement runs, the next one collects what is to be written.

What a write costs is mostly its statement and its commit, not its rows. At rest a write is made at
once and alone; under load many share a statement, which is one transaction: a caller hears of its
write once that has committed.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import asyncpg

from services.kit import call, logs

log = logs.logger("together")

Item = TypeVar("Item")
Result = TypeVar("Result")

# So many are written by one statement at the most.
LARGEST = 50
# Who waits for a lock for longer than this keeps nobody else waiting.
PATIENCE_SECONDS = 0.02


class _Waiting(NamedTuple, Generic[Item, Result]):
    item: Item
    done: asyncio.Future[Result]
    context: contextvars.Context


class Together(Generic[Item, Result]):
    """Writes by means of `write`: one statement, whose results are in the order of its items.

    What Postgres refuses to do for several, it is asked to do for each of them. A result that is an
    exception is raised to who waits for it. `write` may as well be a call to another service.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        largest: int = LARGEST,
    ) -> None:
        self._write = write
        self._largest = largest
        self._waiting: list[_Waiting[Item, Result]] = []
        # The statement that is waited for, and all that run.
        self._latest: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def do(self, item: Item) -> Result:
        """What was written. Raises what `write` raises for the item alone."""
        (done,) = self._add([item])
        result = await done
        _has_written()
        return result

    async def do_all(self, items: Sequence[Item]) -> list[Result | Exception]:
        """What was written for each, or why it was not, for items that come together."""
        results: list[Result | Exception] = []
        added = self._add(items) if items else []
        try:
            for done in added:
                try:
                    results.append(await done)
                except Exception as error:
                    results.append(error)
        finally:
            for done in added:
                done.cancel()  # nobody waits for it if this call was cancelled
        _has_written()
        return results

    def _add(self, items: Sequence[Item]) -> list[asyncio.Future[Result]]:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        added: list[asyncio.Future[Result]] = [loop.create_future() for _ in items]
        self._waiting += [
            _Waiting(item, done, context) for item, done in zip(items, added, strict=True)
        ]
        if self._latest is None:
            self._begin()
        return added

    def _begin(self) -> None:
        some, self._waiting = self._waiting[: self._largest], self._waiting[self._largest :]
        # What several share belongs to no call in particular.
        context = some[0].context if len(some) == 1 else contextvars.Context()
        task = asyncio.create_task(self._do(some), context=context)
        self._running.add(task)
        self._latest = task
        timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._go_on, task)
        task.add_done_callback(partial(self._end, timer))

    def _end(self, timer: asyncio.TimerHandle, task: asyncio.Task[None]) -> None:
        timer.cancel()
        self._running.discard(task)
        self._go_on(task)

    def _go_on(self, task: asyncio.Task[None]) -> None:
        """Wait no longer for a statement."""
        if self._latest is task:
            self._latest = None
            if self._waiting:
                self._begin()

    async def _do(self, some: Sequence[_Waiting[Item, Result]]) -> None:
        try:
            results = await self._write([each.item for each in some])
        except asyncpg.PostgresError as error:
            if len(some) > 1:  # nothing was written
                log.info("written one by one", error=type(error).__name__, writes=len(some))
                await asyncio.gather(*(self._do([each]) for each in some))
            else:
                _fail(some, error)
        except BaseException as error:
            _fail(some, error)
            if not isinstance(error, Exception):
                raise
        else:
            for each, result in zip(some, results, strict=True):
                if each.done.done():  # the call may have been cancelled meanwhile
                    continue
                if isinstance(result, Exception):
                    each.done.set_exception(result)
                else:
                    each.done.set_result(result)


def _has_written() -> None:
    current = call.current_or_none()
    if current is not None:
        current.committed = True


def _fail(some: Sequence[_Waiting[Item, Result]], error: BaseException) -> None:
    for each in some:
        if not each.done.done():
            each.done.set_exception(error)
