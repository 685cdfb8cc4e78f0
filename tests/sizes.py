"""How large a test is: as promised with `SHOP_TEST_WHOLE=1` (`make promises`), shorter without."""

from __future__ import annotations

import os

WHOLE = bool(os.environ.get("SHOP_TEST_WHOLE"))


def size(promised: int, short: int) -> int:
    """The promised number, or a smaller one that runs in a few seconds."""
    return promised if WHOLE else short
