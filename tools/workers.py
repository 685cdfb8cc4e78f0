"""Prints how many test processes suit this machine: its cores, and its memory.

Half of the time a test waits (for processes to start and end, for what is to expire, for disks), so
that two a core keep the cores busy. Each may have a shop of its own running.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

A_CORE = 2
LARGEST = 8
GIB_EACH = 1.5
"""A test process, and the eight processes of a shop."""

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory() -> int:
    """Bytes that this process and its children may use together."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in LIMITS:
        with contextlib.suppress(OSError, ValueError):  # none, or "max"
            most = min(most, int(Path(limit).read_text()))
    return most


def workers(cores: int, bytes_: int) -> int:
    """At least one, whatever there is."""
    return max(1, min(A_CORE * cores, LARGEST, int(bytes_ / GIB_EACH / 2**30)))


if __name__ == "__main__":
    print(workers(len(os.sched_getaffinity(0)), memory()))
