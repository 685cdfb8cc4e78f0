"""Answers that are remembered for a while, until what they tell of changes.

Bounded in time and in bytes. What is looked up while it changes is not remembered: an entry is
never older than the last change that this process has heard of. Those that are asked for can be
kept for longer than their time, by looking at their versions instead of at them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

# So many changed things are known one by one; past it, what was being looked up is not remembered.
REMEMBERED_CHANGES = 10_000
# To look at a version costs a thirtieth of what the answer costs, so those that are not asked for
# are kept for a while, too: so many times.
MOST_IDLE = 6

Value = TypeVar("Value")


@dataclass(slots=True)
class Entry(Generic[Value]):
    """What is remembered, until when.

    `version` is other than that of the same thing at another time; `idle` is how often it has been
    confirmed since it was asked for.
    """

    value: Value
    until: float
    tells_of: tuple[Hashable, ...]
    version: object
    idle: int = 0


class Cache(Generic[Value]):
    """Answers, as they are sent, by what was asked for."""

    def __init__(self, *, seconds: float, most_bytes: int, size: Callable[[Value], int]) -> None:
        """Entries live for `seconds`, and hold `most_bytes` together; the oldest go first."""
        self._size = size
        self._seconds = seconds
        self._most = most_bytes
        self._bytes = 0
        # Those that have least time left come first, but for the age with which some begin.
        self._entries: dict[str, Entry[Value]] = {}
        # A thing has one or two keys: a set for each would take more memory than all answers.
        self._keys: dict[Hashable, tuple[str, ...]] = {}
        self._now = 0
        self._changed: dict[Hashable, int] = {}
        self._since = 0

    def __len__(self) -> int:
        """How many are remembered; some of them may be over."""
        return len(self._entries)

    def get(self, key: str) -> Value | None:
        """What is known, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if time.monotonic() < entry.until:
            entry.idle = 0
            return entry.value
        self._remove(key)
        return None

    def moment(self) -> int:
        """Now, as changes are counted: ask before a look-up, and give it to `put`."""
        return self._now

    def has_changed(self, things: Iterable[Hashable], since: int) -> bool:
        """Whether any of these may have changed since that moment."""
        if since < self._since:
            return True
        return any(self._changed.get(thing, 0) > since for thing in things)

    def put(
        self,
        key: str,
        value: Value,
        tells_of: Collection[Hashable],
        looked_up: int,
        version: object = None,
        age: float = 0.0,
    ) -> None:
        """Remember `value`, unless any of what it tells of has changed since `looked_up`.

        It was `age` seconds old when it was looked up, and does not live longer for that.
        """
        if age >= self._seconds or self.has_changed(tells_of, looked_up):
            return
        if key in self._entries:
            self._remove(key)
        until = time.monotonic() + self._seconds - age
        self._entries[key] = Entry(value, until, tuple(tells_of), version)
        self._bytes += self._size(value)
        for thing in tells_of:
            self._keys[thing] = (*self._keys.get(thing, ()), key)
        while self._bytes > self._most:
            self._remove(next(iter(self._entries)))

    def ending(self, seconds: float) -> dict[str, Entry[Value]]:
        """What would be forgotten within so long, and has been asked for not long ago.

        What nobody has asked for since its time was over is dropped: this is to be asked now and
        then. It is kept for as long again, as who asks for this may be late.
        """
        found, over = {}, []
        now = time.monotonic()
        for key, entry in self._entries.items():
            if entry.until > now + seconds:
                break
            if entry.until + self._seconds <= now:
                over.append(key)
            elif entry.idle < MOST_IDLE:
                found[key] = entry
        for key in over:
            self._remove(key)
        return found

    def confirm(self, versions: Mapping[str, object], asked: float) -> None:
        """Keep for another while, from the moment `asked`, those that still have these versions.

        They were looked at after that moment, and are as true as when they would be put anew. The
        others go when their time is over.
        """
        for key, version in versions.items():
            entry = self._entries.get(key)
            if entry is not None and entry.version == version and version is not None:
                del self._entries[key]
                entry.until = asked + self._seconds
                entry.idle += 1
                self._entries[key] = entry

    def forget(self, changed: Collection[Hashable]) -> None:
        """Forget what tells of anything that has changed."""
        self._now += 1
        if len(self._changed) + len(changed) > REMEMBERED_CHANGES:
            self._changed.clear()
            self._since = self._now
        for thing in changed:
            self._changed[thing] = self._now
            for key in self._keys.get(thing, ()):
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
        self._bytes -= self._size(entry.value)
        for thing in entry.tells_of:
            keys = tuple(other for other in self._keys.pop(thing) if other != key)
            if keys:
                self._keys[thing] = keys
