"""What may happen to refunds and disputes: pure decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.kit import errors
from services.kit.money import from_minor
from services.kit.statements import Fields
from services.payment.gateway import Repayment
from services.payment.rules import CAPTURED, PARTIALLY_REFUNDED, REFUNDED, SUCCEEDED
from shop.errors.v1 import reason_pb2
from shop.payment.v1.payment_pb2 import Payment, Refund


def refundable(payment: Fields) -> int:
    """What was captured and is neither given back nor on its way back."""
    return int(payment["captured"] - payment["refund_pending"] - payment["refunded"])


def refund_amount(payment: Fields, amount: int | None) -> int:
    """How much to give back; None: all that is left. Raises what RefundPayment may."""
    left = refundable(payment)
    if not payment["captured"] or (amount is None and not left):
        raise errors.failed_precondition(
            reason_pb2.REASON_PAYMENT_NOT_REFUNDABLE,
            "There is nothing to give back.",
            status=Payment.Status.Name(payment["status"]),
        )
    if amount is not None and amount > left:
        most = from_minor(left, payment["currency"])
        raise errors.failed_precondition(
            reason_pb2.REASON_REFUND_TOO_LARGE,
            "More than was captured and is not given back yet.",
            currency_code=payment["currency"],
            units=str(most.units),
            nanos=str(most.nanos),
        )
    return left if amount is None else amount


def check_currency(payment: Fields, currency: str) -> None:
    """Raise CURRENCY_MISMATCH unless a payment is in this currency."""
    if payment["currency"] != currency:
        raise errors.failed_precondition(
            reason_pb2.REASON_CURRENCY_MISMATCH,
            f"The payment is in {payment['currency']}.",
        )


def with_refund(payment: Fields, *, pending: int = 0, refunded: int = 0) -> dict[str, Any]:
    """The columns of a payment after its sums of refunds have changed by these amounts."""
    back = payment["refunded"] + refunded
    status = payment["status"]
    if back == payment["captured"]:
        status = REFUNDED
    elif status in CAPTURED:
        status = PARTIALLY_REFUNDED if back else SUCCEEDED
    return {
        "status": status,
        "refund_pending": payment["refund_pending"] + pending,
        "refunded": back,
    }


_REFUND_STATUSES: Mapping[str, Refund.Status.ValueType] = {
    "succeeded": Refund.SUCCEEDED,
    "failed": Refund.FAILED,
    "canceled": Refund.FAILED,
}
# News of a refund move it only this way: one that failed after all stays failed.
_REFUND_RANKS = {Refund.PROCESSING: 0, Refund.SUCCEEDED: 1, Refund.FAILED: 2}


def refund_status(refund: Fields, repayment: Repayment) -> Refund.Status.ValueType:
    """Where a refund stands, now that Stripe says this of it."""
    told = _REFUND_STATUSES.get(repayment.status, Refund.PROCESSING)
    before: Refund.Status.ValueType = refund["status"]
    return max(before, told, key=_REFUND_RANKS.__getitem__)


# Which news of a dispute are later: an inquiry becomes a dispute, a dispute is decided.
_DISPUTE_RANKS = {
    "warning_needs_response": 0,
    "warning_under_review": 1,
    "warning_closed": 2,
    "needs_response": 3,
    "under_review": 4,
    "prevented": 5,
    "won": 5,
    "lost": 5,
}


def is_later(status: str, than: str) -> bool:
    """Whether a dispute comes to this status after another; what we do not know comes first."""
    return _DISPUTE_RANKS.get(status, -1) > _DISPUTE_RANKS.get(than, -1)
