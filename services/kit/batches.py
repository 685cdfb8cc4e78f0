"""Look-ups that wait together: while one statement runs, the next one collects what is asked for.

At rest a look-up is made at once and alone. Under load many share a statement, a connection and a
round trip, and the fuller the batches, the cheaper each look-up. An answer is never older than its
question: what is asked while a statement runs is looked up by the next one.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")
Found = TypeVar("Found")

# So many keys share a statement at the most.
LARGEST = 100


class Batch(Generic[Key, Found]):
    """Single look-ups by means of `fetch`, which takes several keys and answers what it found."""

    def __init__(self, fetch: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Found]]]) -> None:
        self._fetch = fetch
        self._waiting: dict[Key, list[asyncio.Future[Found | None]]] = {}
        self._running: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Found | None:
        """What there is for `key`, or None. Raises what `fetch` raises."""
        answer: asyncio.Future[Found | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(answer)
        if self._running is None:
            # In a context of its own: the statement belongs to no call in particular.
            work = self._answer_all()
            self._running = asyncio.create_task(work, context=contextvars.Context())
        return await answer

    async def _answer_all(self) -> None:
        try:
            while self._waiting:
                keys = list(self._waiting)[:LARGEST]
                asked = {key: self._waiting.pop(key) for key in keys}
                try:
                    found = await self._fetch(keys)
                except Exception as error:
                    for _, answer in _unanswered(asked):
                        answer.set_exception(error)
                else:
                    for key, answer in _unanswered(asked):
                        answer.set_result(found.get(key))
        finally:
            self._running = None


def _unanswered(
    asked: Mapping[Key, list[asyncio.Future[Found | None]]],
) -> list[tuple[Key, asyncio.Future[Found | None]]]:
    """Those who still wait: a call may have been cancelled meanwhile."""
    return [(key, one) for key, answers in asked.items() for one in answers if not one.done()]
