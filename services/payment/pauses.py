"""When the reconciler looks at a payment again: soon at first, then ever more rarely."""

from __future__ import annotations

from datetime import timedelta

from services.kit.statements import Fields
from services.payment import gateway
from services.payment.refund_rules import refundable
from services.payment.rules import FAILED, OPEN, REVIEW

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_LONGEST_PAUSE_FOR_PEOPLE = 3600.0


def pause(checks: int, *, longest: float = _LONGEST_PAUSE) -> timedelta:
    """How long to wait before looking at something again that was looked at so often."""
    return timedelta(seconds=min(_FIRST_PAUSE * 2 ** min(checks, 20), longest))


def next_pause(payment: Fields) -> timedelta | None:
    """When the reconciler looks at a payment again; None: when something happens to it."""
    status, checks = payment["status"], payment["checks"]
    if status in OPEN:
        return pause(checks)
    if payment["refund_pending"] or (payment["give_back"] and refundable(payment)):
        return pause(checks, longest=_LONGEST_PAUSE_FOR_PEOPLE)
    if status == FAILED and payment["intent_id"] and payment["intent_status"] not in gateway.ENDED:
        return pause(checks, longest=_LONGEST_PAUSE_FOR_PEOPLE)
    if status == REVIEW and payment["give_back"] and not payment["captured"]:
        return pause(checks, longest=_LONGEST_PAUSE_FOR_PEOPLE)
    return None
