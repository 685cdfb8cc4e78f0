"""Work that a caller waits for only as long as they can, and that goes on without them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from services.kit import call, failures, logs

log = logs.logger("payments")

# What reading the outcome and answering needs of the caller's time.
MARGIN_SECONDS = 0.5
LONGEST_SECONDS = 8.0
# What a process needs, beside the gateway's own time, to settle what it has heard.
LEASE_MARGIN = timedelta(seconds=4)

Outcome = TypeVar("Outcome")


class Patience:
    """The work of a process that outlives its calls. It must be safe to lose at any moment."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def wait_for(self, work: Coroutine[Any, Any, Outcome]) -> Outcome | None:
        """What `work` returns or raises; None when it takes longer than the caller's deadline.

        A caller who goes away does not end it.
        """
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        seconds = min(call.current().remaining() - MARGIN_SECONDS, LONGEST_SECONDS)
        try:
            done, _ = await asyncio.wait({task}, timeout=max(seconds, 0.0))
        except asyncio.CancelledError:
            task.add_done_callback(_report)
            raise
        if done:
            return task.result()
        task.add_done_callback(_report)
        return None


def _report(task: asyncio.Task[Any]) -> None:
    """Log what nobody waits for any more."""
    if not task.cancelled() and isinstance(error := task.exception(), Exception):
        failures.report(log, "work that outlived its call failed", error)
