"""How large a test is: as promised with `SHOP_TEST_WHOLE=1` (`make promises`), shorter without."""

from __future__ import annotations

import os
from typing import TypeVar

Number = TypeVar("Number", int, float)

WHOLE = bool(os.environ.get("SHOP_TEST_WHOLE"))


def size(promised: Number, short: Number) -> Number:
    """The promised number, or one that a few seconds or a busy machine suffice for."""
    return promised if WHOLE else short
