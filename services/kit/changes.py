"""What the processes of a service tell each other of: rows that have changed, by NOTIFY.

A transaction notes the ids (`tx.changed`). Once it is over, its own process hears of them at once,
the others within `PAUSE_SECONDS` and the way. They are not part of the transaction: commits that
notify wait for each other, and stock moves with every order. So a process that is killed just then
leaves others without the news: who remembers rows has to have a bound in time, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from uuid import UUID

from services.kit.db import Database
from services.kit.ids import uuid7
from services.kit.tasks import forever

# How long news wait for others to travel with.
PAUSE_SECONDS = 0.02
# A payload holds 8,000 bytes: so many ids fit.
AT_ONCE = 200


class Changes:
    """The news of one process; run `forever` as a background task."""

    def __init__(
        self,
        database: Database,
        channel: str,
        *,
        heard: Callable[[Collection[UUID]], None],
        missed: Callable[[], None],
    ) -> None:
        """`heard` is told what has changed, `missed` that there may have been news unheard."""
        self._database = database
        self._channel = channel
        self._heard = heard
        self._missed = missed
        self._name = str(uuid7())
        self._untold: set[UUID] = set()
        self._wake = asyncio.Event()
        database.when_changed(self._tell)

    async def forever(self) -> None:
        """Tell the others, and hear what they tell."""
        async with asyncio.TaskGroup() as group:
            group.create_task(forever(f"{self._channel} news", self._send))
            listen = partial(
                self._database.follow, self._channel, heard=self._hear, joined=self._missed
            )
            group.create_task(forever(f"{self._channel} listener", listen))

    def _tell(self, ids: Collection[UUID]) -> None:
        self._heard(ids)
        self._untold.update(ids)
        self._wake.set()

    def _hear(self, payload: str) -> None:
        sender, *ids = payload.split()
        if sender != self._name:
            self._heard([UUID(id) for id in ids])

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(PAUSE_SECONDS)
            self._wake.clear()
            while self._untold:
                ids = [self._untold.pop() for _ in range(min(AT_ONCE, len(self._untold)))]
                try:
                    payload = " ".join([self._name, *map(str, ids)])
                    async with self._database.connection() as connection:
                        await connection.execute("SELECT pg_notify($1, $2)", self._channel, payload)
                except BaseException:
                    self._untold.update(ids)
                    self._wake.set()
                    raise
