"""Points at which a process can be made to die, for tests of what a crash leaves behind.

`SHOP_FAULT=checkout.after_reserve` has the process kill itself there, without a chance to tidy up.
Production refuses to start with it.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum


class Point(StrEnum):
    """Between which steps a process dies."""

    NOWHERE = ""
    # The order is written as PENDING; no other service knows of it.
    AFTER_ORDER = "checkout.after_order"
    # The stock is reserved; the order does not know.
    AFTER_RESERVE = "checkout.after_reserve"
    # The order is placed; the customer does not know.
    AFTER_PLACE = "checkout.after_place"
    # The order was refused; the customer does not know, and the stock service may not.
    AFTER_REFUSAL = "checkout.after_refusal"
    # The order is marked as paid; nothing has followed, and payment does not know.
    AFTER_PAID = "settlement.after_paid"
    # The order is changed, cancelled for example; nothing has followed.
    AFTER_UPDATE = "order.after_update"


class Faults:
    """Dies at one point, or nowhere."""

    def __init__(self, at: Point = Point.NOWHERE) -> None:
        self._at = at

    def reach(self, point: Point) -> None:
        """Die, if this is the point."""
        if point is self._at:
            os.kill(os.getpid(), signal.SIGKILL)
