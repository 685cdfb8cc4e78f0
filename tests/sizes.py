"""How large a test is, and how long what it sees may take: as promised with `SHOP_TEST_WHOLE=1`.

That is what `make promises` sets. Without, tests are shorter, and the machine is busy with others.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

Number = TypeVar("Number", int, float)

WHOLE = bool(os.environ.get("SHOP_TEST_WHOLE"))


def size(promised: Number, short: Number) -> Number:
    """The promised number, or one that a few seconds or a busy machine suffice for."""
    return promised if WHOLE else short


def promised(seconds: float) -> float:
    """The time that is promised, and more of it where others keep this machine busy as well."""
    cores = os.cpu_count() or 1
    # Over the last minute, and now: other tests may only just have begun.
    now = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0])
    return seconds * max(1.0 if WHOLE else 2.0, os.getloadavg()[0] / cores, now / cores)
