"""Look-ups that wait together: while one runs, the next one collects what is asked for.

At rest a look-up is made at once and alone, as part of the call that asks. Under load many share a
statement or a call to another service, and the fuller the batches, the cheaper each look-up. An
answer is never older than its question: what is asked meanwhile is looked up by the next one.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")
Found = TypeVar("Found")

# So many keys are looked up together at the most, unless one call asks for more.
LARGEST = 100


class Batch(Generic[Key, Found]):
    """Look-ups by means of `fetch`, which takes several keys and answers what it found."""

    def __init__(self, fetch: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Found]]]) -> None:
        self._fetch = fetch
        self._waiting: list[tuple[Sequence[Key], asyncio.Future[Mapping[Key, Found]]]] = []
        self._busy = False
        self._rest: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Found | None:
        """What there is for `key`, or None. Raises what `fetch` raises."""
        return (await self._look_up([key])).get(key)

    async def get_all(self, keys: Sequence[Key]) -> dict[Key, Found]:
        """What there is for each of `keys`."""
        if not keys:
            return {}
        found = await self._look_up(keys)
        return {key: found[key] for key in keys if key in found}

    async def _look_up(self, keys: Sequence[Key]) -> Mapping[Key, Found]:
        if self._busy:
            answer: asyncio.Future[Mapping[Key, Found]]
            answer = asyncio.get_running_loop().create_future()
            self._waiting.append((keys, answer))
            return await answer
        self._busy = True
        try:
            return await self._fetch(keys)
        finally:
            if self._waiting:
                # In a context of its own: what they share belongs to no call in particular.
                rest = self._answer_waiting()
                self._rest = asyncio.create_task(rest, context=contextvars.Context())
            else:
                self._busy = False

    async def _answer_waiting(self) -> None:
        try:
            while self._waiting:
                asked = self._next()
                keys = list(dict.fromkeys(key for keys, _ in asked for key in keys))
                try:
                    found = await self._fetch(keys)
                except Exception as error:
                    for _, answer in asked:
                        if not answer.done():
                            answer.set_exception(error)
                else:
                    for _, answer in asked:
                        if not answer.done():  # a call may have been cancelled meanwhile
                            answer.set_result(found)
        finally:
            self._busy = False

    def _next(self) -> list[tuple[Sequence[Key], asyncio.Future[Mapping[Key, Found]]]]:
        """Those who are answered together: the first, and as many more as there is room for."""
        count, keys = 1, len(self._waiting[0][0])
        while count < len(self._waiting) and keys + len(self._waiting[count][0]) <= LARGEST:
            keys += len(self._waiting[count][0])
            count += 1
        asked, self._waiting = self._waiting[:count], self._waiting[count:]
        return asked
