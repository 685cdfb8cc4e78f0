"""How long something takes that is done again and again, alone, without a network."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import MetaData

from services.kit.db import Database

TIMES = 60
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
    for _ in range(SETTLING):
        await ask()
    times: list[float] = []
    while len(times) < 2 or (len(times) < TIMES and sum(times) < ENOUGH_SECONDS):
        began = time.perf_counter()
        await ask()
        times.append(time.perf_counter() - began)
    times.sort()
    return Spread(times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000)


@asynccontextmanager
async def opened(url: str, metadata: MetaData) -> AsyncIterator[Database]:
    """A service's database, with one connection."""
    database = await Database.open(url, metadata, name="bench", connections=1)
    yield database
    await database.close()
