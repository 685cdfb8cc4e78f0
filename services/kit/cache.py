"""Answers that are remembered for a while, until what they tell of changes.

Bounded in time and in bytes. What is looked up while it changes is not remembered: an entry is
never older than the last change that this process has heard of.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Hashable
from typing import NamedTuple

# So many changed things are known one by one; past it, what was being looked up is not remembered.
REMEMBERED_CHANGES = 10_000


class _Entry(NamedTuple):
    value: bytes
    until: float
    tells_of: tuple[Hashable, ...]


class Cache:
    """Serialized answers by what was asked for."""

    def __init__(self, *, seconds: float, most_bytes: int) -> None:
        """Entries live for `seconds`, and hold `most_bytes` together; the oldest go first."""
        self._seconds = seconds
        self._most = most_bytes
        self._bytes = 0
        self._entries: dict[str, _Entry] = {}
        self._keys: dict[Hashable, set[str]] = {}
        self._now = 0
        self._changed: dict[Hashable, int] = {}
        self._since = 0

    def get(self, key: str) -> bytes | None:
        """What is known, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if time.monotonic() < entry.until:
            return entry.value
        self._remove(key)
        return None

    def moment(self) -> int:
        """Now, as changes are counted: ask before a look-up, and give it to `put`."""
        return self._now

    def put(self, key: str, value: bytes, tells_of: Collection[Hashable], looked_up: int) -> None:
        """Remember `value`, unless any of what it tells of has changed since `looked_up`."""
        if looked_up < self._since:
            return
        if any(self._changed.get(thing, 0) > looked_up for thing in tells_of):
            return
        if key in self._entries:
            self._remove(key)
        self._entries[key] = _Entry(value, time.monotonic() + self._seconds, tuple(tells_of))
        self._bytes += len(value)
        for thing in tells_of:
            self._keys.setdefault(thing, set()).add(key)
        while self._bytes > self._most:
            self._remove(next(iter(self._entries)))

    def forget(self, changed: Collection[Hashable]) -> None:
        """Forget what tells of anything that has changed."""
        self._now += 1
        if len(self._changed) + len(changed) > REMEMBERED_CHANGES:
            self._changed.clear()
            self._since = self._now
        for thing in changed:
            self._changed[thing] = self._now
            for key in tuple(self._keys.get(thing, ())):
                self._remove(key)

    def clear(self) -> None:
        """Forget all: nobody knows what has changed."""
        self._now += 1
        self._since = self._now
        self._changed.clear()
        self._entries.clear()
        self._keys.clear()
        self._bytes = 0

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key)
        self._bytes -= len(entry.value)
        for thing in entry.tells_of:
            keys = self._keys[thing]
            keys.discard(key)
            if not keys:
                del self._keys[thing]
