"""Background work of a service: it is started again when it fails, and ended at shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from services.kit import failures, logs
from services.kit.db import Database

log = logs.logger("tasks")

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0


async def forever(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work`; when it raises, log that and run it again, after ever longer pauses."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        began = asyncio.get_running_loop().time()
        try:
            await work()
        except Exception as error:
            failures.report(log, "background work failed", error, task=name)
        if asyncio.get_running_loop().time() - began > LONGEST_PAUSE_SECONDS:
            pause = FIRST_PAUSE_SECONDS
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def every(seconds: float, work: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    """Work that does `work` again and again, with `seconds` between, also after it has failed."""

    async def repeat() -> None:
        while True:
            try:
                await work()
            except Exception as error:
                failures.report(log, "background work failed", error)
            await asyncio.sleep(seconds)

    return repeat


async def remove_all(database: Database, *removers: Callable[[Any], Awaitable[int]]) -> int:
    """Call each remover with a connection until it finds nothing more; the number removed.

    A remover removes a bounded number of rows that are over and answers how many they were.
    """
    removed = 0
    for remove in removers:
        some = 1
        while some:
            async with database.connection() as connection:
                some = await remove(connection)
            removed += some
    return removed
