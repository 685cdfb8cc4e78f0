"""Reads that tolerate lag: from a replica while it is near, else from the primary.

How near it is needs no clock, and no word of the replica about itself. The primary is asked how far
its log has been written; once the replica has replayed that far, it shows all that was committed
before the question. So a replica that is cut off, or whose primary is, is simply no longer near.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import MetaData

from services.kit import failures, logs, metrics
from services.kit.db import Database
from services.kit.errors import ServiceError

log = logs.logger("replica")

Answer = TypeVar("Answer")
Ask = Callable[[Any], Awaitable[Answer]]
Open = Callable[[], Awaitable[Database]]

# Between two measurements, and between two looks whether the replica is there yet.
PAUSE_SECONDS = 0.25
LOOK_SECONDS = 0.02
# Longer than that nobody waits for a replica that does not answer.
READ_SECONDS = 1.0
# A replica that is not there by then is measured anew: after a failover it may never be.
MEASURED_SECONDS = 30.0

# What was acknowledged is on the primary's disk, unless synchronous_commit is off (`shop doctor`).
WRITTEN = "SELECT pg_current_wal_flush_lsn()::text"
# A server that is no replica replays nothing: then this is null.
REPLAYED = "SELECT pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= $1::text::pg_lsn"


class View(NamedTuple):
    """What a read has seen: all that was committed before a moment, and maybe more."""

    since: float
    """The moment, as `time.monotonic()` counts."""
    mark: int
    """What the replica's `mark` said at that moment."""
    lags: bool = False
    """Whether the replica answered."""

    @property
    def age(self) -> float:
        """How many seconds what was read may lag behind, at most."""
        return time.monotonic() - self.since if self.lags else 0.0


class Replica:
    """The primary, and maybe a replica of it, for reads that tolerate lag."""

    def __init__(
        self, primary: Database, open_copy: Open | None = None, *, most_seconds: float = 0.0
    ) -> None:
        """The replica is read while it is less than `most_seconds` behind, for sure."""
        self._primary = primary
        self._open = open_copy
        self._most = most_seconds
        self._copy: Database | None = None
        self._view: View | None = None
        self._measured = time.monotonic()
        # Who remembers what was read tells moments apart by this (`kit.cache`).
        self.mark: Callable[[], int] = lambda: 0

    @classmethod
    def of(
        cls,
        primary: Database,
        url: str,
        metadata: MetaData,
        *,
        connections: int,
        most_seconds: float,
    ) -> Replica:
        """As the settings describe it; without a `url` all reads are the primary's."""
        name = f"shop {metadata.schema} replica"
        open_copy = partial(
            Database.open_replica, url, metadata, name=name, connections=connections
        )
        return cls(primary, open_copy if url else None, most_seconds=most_seconds)

    @property
    def exists(self) -> bool:
        """Whether there is a replica, near or not."""
        return self._open is not None

    @property
    def lag(self) -> float:
        """How many seconds the replica is behind, at most."""
        return time.monotonic() - self._measured

    @property
    def is_near(self) -> bool:
        """Whether the replica is read now."""
        return self._view is not None and self._view.age < self._most

    async def read(self, ask: Ask[Answer]) -> tuple[Answer, View]:
        """What `ask(connection)` answers, and what it has seen.

        Whatever goes wrong at the replica, the primary is asked instead: its word counts.
        """
        view, copy = self._view, self._copy
        if view is not None and copy is not None and self.is_near:
            try:
                async with copy.connection() as connection:
                    answer = await self._in_time(ask, connection)
            except ServiceError:
                pass  # away, busy, or it knows nothing of what is asked for
            except Exception as error:
                log.info("the primary is asked instead", error=failures.kind(error))
            else:
                metrics.TOLERANT_READS.labels("replica").inc()
                return answer, view
        metrics.TOLERANT_READS.labels("primary").inc()
        return await self.read_primary(ask)

    async def _in_time(self, ask: Ask[Answer], connection: Any) -> Answer:
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await ask(connection)
        except TimeoutError:
            self._view = None  # until it has been measured anew
            connection.terminate()  # giving it back would wait for it once more
            raise

    async def read_primary(self, ask: Ask[Answer]) -> tuple[Answer, View]:
        """What the primary answers."""
        view = View(time.monotonic(), self.mark())
        async with self._primary.connection() as connection:
            return await ask(connection), view

    async def follow(self) -> None:
        """Measure the replica, again and again; for a background task. Without one, do nothing."""
        if self._open is None:
            await asyncio.Event().wait()
            return
        metrics.REPLICA_LAG.set_function(lambda: self.lag)
        self._copy = await self._open()
        try:
            while True:
                await self._measure(self._copy)
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            copy, self._copy, self._view = self._copy, None, None
            await copy.close()

    async def _measure(self, copy: Database) -> None:
        since, mark = time.monotonic(), self.mark()
        async with self._primary.connection() as connection:
            written = await connection.fetchval(WRITTEN)
        async with asyncio.timeout(MEASURED_SECONDS):
            while True:
                async with copy.connection() as connection:
                    replayed = await connection.fetchval(REPLAYED, written)
                if replayed:
                    break
                await asyncio.sleep(LOOK_SECONDS)
        self._view = View(since, mark, lags=True)
        self._measured = since
