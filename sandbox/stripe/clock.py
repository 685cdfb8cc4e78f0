"""The sandbox's clock: real time plus what it was told to jump ahead."""

from __future__ import annotations

import time


class Clock:
    """Seconds since 1970. Everything that expires or is retried goes by it; signatures do not."""

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def now(self) -> float:
        return time.time() + self.offset

    def seconds(self) -> int:
        """What `created` says."""
        return int(self.now())

    def advance(self, seconds: float) -> None:
        """Jump ahead. Raises ValueError for going back: answers would precede their requests."""
        if not 0 <= seconds <= 10 * 366 * 86400:
            raise ValueError("the clock goes forward, at most ten years at once")
        self.offset += seconds
