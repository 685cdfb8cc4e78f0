"""How long something takes that is done again and again, alone, without a network."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import MetaData

from services.kit.db import Database

# So often, so that p99 is not the one that the machine's other work hit.
TIMES = 500
# What takes so long is done less often; twice at least.
ENOUGH_SECONDS = 1.5
# Postgres plans the first five executions anew, and decides then.
SETTLING = 8


@dataclass(frozen=True)
class Spread:
    """Milliseconds."""

    p50: float
    p99: float


async def spread(ask: Callable[[], Awaitable[None]]) -> Spread:
    """The times of `ask`."""
    return (await spreads([ask]))[0]


async def spreads(asks: Sequence[Callable[[], Awaitable[None]]]) -> list[Spread]:
    """The times of several that take turns, so that they can be compared."""
    for _ in range(SETTLING):
        for ask in asks:
            await ask()
    times: list[list[float]] = [[] for _ in asks]
    began = time.perf_counter()
    while len(times[0]) < 2 or (
        len(times[0]) < TIMES and time.perf_counter() - began < ENOUGH_SECONDS * len(asks)
    ):
        for ask, own in zip(asks, times, strict=True):
            begin = time.perf_counter()
            await ask()
            own.append(time.perf_counter() - begin)
    return [_of(sorted(own)) for own in times]


def _of(times: Sequence[float]) -> Spread:
    return Spread(times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000)


@asynccontextmanager
async def opened(url: str, metadata: MetaData) -> AsyncIterator[Database]:
    """A service's database, with one connection."""
    database = await Database.open(url, metadata, name="bench", connections=1)
    yield database
    await database.close()
