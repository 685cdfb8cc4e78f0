"""Points at which a process can be made to die, for tests of what a crash leaves behind.

`SHOP_FAULT=pay.after_charge` has the process kill itself there, without a chance to tidy up.
Production refuses to start with it.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum


class Point(StrEnum):
    """Between which steps a process dies."""

    NOWHERE = ""
    # The payment is written; Stripe was not asked.
    AFTER_PAYMENT = "pay.after_payment"
    # Stripe has charged, or declined; the payment does not know.
    AFTER_CHARGE = "pay.after_charge"
    # The payment is settled; neither the customer nor the order knows.
    AFTER_SETTLEMENT = "pay.after_settlement"
    # The order knows that it is paid, or is to be given back; the outbox does not know that.
    AFTER_MARK_PAID = "outbox.after_mark_paid"
    # The refund is written; Stripe was not asked.
    AFTER_REFUND = "refund.after_refund"
    # Stripe has given back; the refund does not know.
    AFTER_REPAYMENT = "refund.after_repayment"
    # The order is closed; nothing was given back yet, and the order service does not know.
    AFTER_CLOSURE = "closure.after_closure"
    # Stripe has said what became of a payment; the reconciler has not settled it.
    AFTER_INQUIRY = "reconcile.after_inquiry"


class Faults:
    """Dies at one point, or nowhere."""

    def __init__(self, at: Point = Point.NOWHERE) -> None:
        self._at = at

    def reach(self, point: Point) -> None:
        """Die, if this is the point."""
        if point is self._at:
            os.kill(os.getpid(), signal.SIGKILL)
