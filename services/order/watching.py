"""Streams of orders' events, woken by NOTIFY over one connection of the process.

Nothing is queued for a watcher: a wake-up is a flag, and what happened is read from the history
after the last sequence that was sent. So a slow client costs no memory, and none misses an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.kit import errors, times
from services.kit.db import Database, Row
from services.order import list_store, messages, rules, store
from shop.order.v1.order_pb2 import WatchOrderResponse

BATCH = 100
End = WatchOrderResponse.End


class Watchers:
    """Everybody who watches an order by this process."""

    def __init__(
        self,
        database: Database,
        *,
        most: int = 100,
        heartbeat_seconds: float = 15.0,
        longest_seconds: float = 300.0,
    ) -> None:
        """At most `most` watch at once, for at most `longest_seconds`: tokens expire too."""
        self._db = database
        self._most = most
        self._heartbeat_seconds = heartbeat_seconds
        self._longest_seconds = longest_seconds
        self._wakes: dict[UUID, set[asyncio.Event]] = {}
        self._count = 0
        self._draining = False

    def drain(self) -> None:
        """End all streams, and those that still begin, with the advice to connect again."""
        self._draining = True
        self._wake_all()

    async def watch(self, order_id: UUID, after: int) -> AsyncGenerator[WatchOrderResponse, None]:
        """What happened to an order after a sequence, and what happens. Ends with `end`.

        Raises RESOURCE_EXHAUSTED when too many watch.
        """
        clock = asyncio.get_running_loop().time
        close_at = clock() + self._longest_seconds
        # A stream that has nothing to tell says that it stands: headers go with the first message.
        beat_at = clock()
        async with self._wake_of(order_id) as wake:
            while True:
                wake.clear()  # before looking: what happens while we look wakes us again
                ending = self._draining or clock() >= close_at
                rows, final = await self._look(order_id, after)
                for row in rows:
                    after = row["sequence"]
                    yield WatchOrderResponse(event=messages.event(row))
                if final or ending:
                    cause = End.ORDER_FINAL if final else End.RECONNECT
                    yield WatchOrderResponse(end=End(cause=cause))
                    return
                if len(rows) == BATCH:
                    continue
                if rows or clock() >= beat_at:
                    if not rows:
                        now = times.timestamp(datetime.now(UTC))
                        heartbeat = WatchOrderResponse.Heartbeat(send_time=now)
                        yield WatchOrderResponse(heartbeat=heartbeat)
                    beat_at = clock() + self._heartbeat_seconds
                with suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), max(min(beat_at, close_at) - clock(), 0.0))

    async def _look(self, order_id: UUID, after: int) -> tuple[list[Row], bool]:
        """Up to a batch of new events, and whether nothing can follow them."""
        async with self._db.connection() as connection:
            # The state before the events: a history that is final then is all there.
            order = await list_store.state(connection, order_id)
            rows = await list_store.events(connection, order_id, after, BATCH)
        if order is None:
            raise errors.not_found("order", order_id)
        return rows, rules.is_final(order) and len(rows) < BATCH

    @asynccontextmanager
    async def _wake_of(self, order_id: UUID) -> Any:
        if self._count >= self._most:
            raise errors.overloaded(seconds=5.0)
        wake = asyncio.Event()
        self._count += 1
        self._wakes.setdefault(order_id, set()).add(wake)
        try:
            yield wake
        finally:
            self._count -= 1
            self._wakes[order_id].discard(wake)
            if not self._wakes[order_id]:
                del self._wakes[order_id]

    def _wake(self, order_id: str) -> None:
        for wake in self._wakes.get(UUID(order_id), ()):
            wake.set()

    def _wake_all(self) -> None:
        for wakes in self._wakes.values():
            for wake in wakes:
                wake.set()

    async def listen(self) -> None:
        """Hold the connection that NOTIFY comes by, while it lasts; for a background task.

        Without it, watchers look at each heartbeat.
        """
        await self._db.follow(store.CHANNEL, heard=self._wake, joined=self._wake_all)
