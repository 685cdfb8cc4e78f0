"""What services do without, so that each of their processes is smaller."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# `mallopt` of glibc: how many heaps there may be.
_M_ARENA_MAX = -8


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Import what can do without these packages as if they were not there.

    structlog would load rich to draw tracebacks, and Stripe's SDK requests beside httpx, which
    loads click and rich for its command line: 10 MB for what no service does.
    """
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules |= dict.fromkeys(hidden)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def share_one_heap() -> None:
    """Let all threads allocate from one heap; for the beginning of a process.

    glibc would give each thread one of its own, which keeps what it was at its largest. Threads of
    Python hardly ever allocate at the same time.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)
