"""What may happen to payments and refunds: pure decisions.

What Stripe says may come late, twice and in any order, so settling only ever moves forward: a
payment that is through is not moved by older news, and captured money wins over everything.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, TypeAlias

from grpc import StatusCode

from services.kit import errors
from services.kit.call import Claim
from services.kit.errors import ServiceError
from services.kit.statements import Fields
from services.payment import gateway
from services.payment.gateway import Intent
from shop.errors.v1 import reason_pb2
from shop.order.v1.order_pb2 import Order
from shop.payment.v1.payment_pb2 import Payment

Status: TypeAlias = Payment.Status.ValueType

PROCESSING: Final = Payment.PROCESSING
REQUIRES_ACTION: Final = Payment.REQUIRES_ACTION
SUCCEEDED: Final = Payment.SUCCEEDED
FAILED: Final = Payment.FAILED
CANCELLED: Final = Payment.CANCELLED
REFUNDED: Final = Payment.REFUNDED
PARTIALLY_REFUNDED: Final = Payment.PARTIALLY_REFUNDED
UNKNOWN: Final = Payment.UNKNOWN
REVIEW: Final = Payment.REVIEW

# Nobody knows yet how these end.
OPEN = frozenset({PROCESSING, REQUIRES_ACTION, UNKNOWN})
CAPTURED = frozenset({SUCCEEDED, PARTIALLY_REFUNDED, REFUNDED})
DEAD = frozenset({FAILED, CANCELLED})

# Why a payment failed, in our words, where Stripe has none.
NOT_RECEIVED = "not_received"
NOT_CONFIRMED = "not_confirmed"
FAILURE_MESSAGES = {
    NOT_RECEIVED: "The payment did not reach the payment provider. Please try again.",
    NOT_CONFIRMED: "The payment was not confirmed. Please try again.",
}
# Stripe keeps idempotency keys for 24 hours; past this a charge is only looked up, not asked for.
KEY_HOURS = timedelta(hours=20)

# --- What Stripe says of a payment --------------------------------------------------------------


def settle(payment: Fields, intent: Intent) -> dict[str, Any]:
    """The columns that a PaymentIntent changes of its payment; empty: nothing new.

    An intent that does not fit its payment leads to REVIEW, from which only people, or the end of
    the order, lead on.
    """
    status = payment["status"]
    if status in OPEN:
        changes = _misfit(payment, intent) or _from_open(payment, intent)
    elif status in DEAD and intent.status == gateway.SUCCEEDED:
        # We had given it up; whether the order can still be placed, the order service knows.
        changes = _misfit(payment, intent) or _succeeded(intent)
    elif status in DEAD and payment["intent_id"] in (None, intent.id):
        changes = {"intent_id": intent.id, "intent_status": intent.status}
    else:
        return {}
    return {name: value for name, value in changes.items() if payment[name] != value}


def _from_open(payment: Fields, intent: Intent) -> dict[str, Any]:
    known = {"intent_id": intent.id, "intent_status": intent.status, **_NO_ACTION, **_card(intent)}
    if intent.status == gateway.SUCCEEDED:
        return _succeeded(intent)
    if intent.status == gateway.CANCELED:
        return known | {"status": CANCELLED}
    if intent.status == gateway.REQUIRES_ACTION:
        return known | {
            "status": REQUIRES_ACTION,
            "client_secret": intent.client_secret,
            "redirect_url": intent.redirect_url,
        }
    if intent.status == gateway.PROCESSING:
        return known | {"status": PROCESSING}
    # It asks for another card or was never confirmed: this payment is over, another may begin.
    waited = payment["status"] == REQUIRES_ACTION
    code = intent.failure_code or (NOT_CONFIRMED if waited else NOT_RECEIVED)
    return known | failed(code, intent.failure_message)


def _succeeded(intent: Intent) -> dict[str, Any]:
    return {
        "status": SUCCEEDED,
        "intent_id": intent.id,
        "intent_status": intent.status,
        "captured": intent.captured,
        "failure_code": "",
        "failure_message": "",
        **_NO_ACTION,
        **_card(intent),
    }


_NO_ACTION = {"client_secret": "", "redirect_url": ""}


def _card(intent: Intent) -> dict[str, str]:
    card = {"card_brand": intent.card_brand, "card_last4": intent.card_last4}
    return {name: value for name, value in card.items() if value}


def failed(code: str, message: str = "") -> dict[str, Any]:
    """The columns of a payment that took no money. The key of what never arrived may be reused."""
    text = message or FAILURE_MESSAGES.get(code, "The payment was refused.")
    changes = {"status": FAILED, "failure_code": code, "failure_message": text, **_NO_ACTION}
    if code == NOT_RECEIVED:
        changes |= {"idempotency_key": None, "fingerprint": None}
    return changes


def _misfit(payment: Fields, intent: Intent) -> dict[str, Any]:
    """REVIEW, when an intent is not what was asked for; empty when it is."""
    ours = intent.payment_id == payment["id"]
    captured = intent.captured if intent.currency == payment["currency"] else None
    if not ours or intent.order_id != payment["order_id"]:
        code = "order_mismatch"
    elif intent.currency != payment["currency"]:
        code = "currency_mismatch"
    elif intent.amount != payment["amount"] or (
        intent.status == gateway.SUCCEEDED and intent.captured != payment["amount"]
    ):
        code = "amount_mismatch"
    else:
        return {}
    review = {
        "status": REVIEW,
        "failure_code": code,
        "failure_message": "Stripe's answer does not fit the order.",
        **_NO_ACTION,
    }
    if ours:
        review |= {"intent_id": intent.id, "intent_status": intent.status}
        if intent.status == gateway.SUCCEEDED:
            review["captured"] = captured or 0
    return review


def reviewed(payment: Fields, intent: Intent) -> dict[str, Any]:
    """The columns of a payment in REVIEW whose order is over: what was captured can go back.

    Empty when Stripe still says what does not fit, so that only people can tell what to do.
    """
    fits = intent.payment_id == payment["id"] and intent.currency == payment["currency"]
    if not fits or payment["captured"]:
        return {}
    if intent.status == gateway.CANCELED:
        return {"status": CANCELLED, "intent_id": intent.id, "intent_status": intent.status}
    if intent.status == gateway.SUCCEEDED and intent.captured:
        return {
            "captured": intent.captured,
            "intent_id": intent.id,
            "intent_status": intent.status,
        }
    return {}


# --- Beginning and confirming -------------------------------------------------------------------


def check_payable(status: Order.Status.ValueType) -> None:
    """Raise ORDER_NOT_PAYABLE unless an order of this status waits for its payment."""
    if status != Order.AWAITING_PAYMENT:
        raise errors.failed_precondition(
            reason_pb2.REASON_ORDER_NOT_PAYABLE,
            "The order is not waiting for a payment.",
            status=Order.Status.Name(status),
        )


def in_the_way(active: Fields) -> ServiceError:
    """Why an order cannot be paid: by its active payment."""
    if active["status"] in CAPTURED:
        return errors.failed_precondition(
            reason_pb2.REASON_ORDER_NOT_PAYABLE,
            "The order is paid.",
            status=Order.Status.Name(Order.PAID),
        )
    return errors.failed_precondition(
        reason_pb2.REASON_PAYMENT_IN_PROGRESS,
        "Another payment of this order is under way.",
        payment_id=str(active["id"]),
    )


def check_same_request(row: Fields, claim: Claim) -> None:
    """Raise IDEMPOTENCY_KEY_REUSED unless the row was made by a request like this one."""
    if not claim.is_of(row["fingerprint"]):
        raise errors.failed_precondition(
            reason_pb2.REASON_IDEMPOTENCY_KEY_REUSED,
            "This idempotency-key was used with another request: take a new one.",
        )


def key_in_use() -> ServiceError:
    """ABORTED: the call that this one repeats is still under way."""
    return ServiceError(
        StatusCode.ABORTED,
        reason_pb2.REASON_IDEMPOTENCY_KEY_IN_USE,
        "A call with this idempotency-key is still running: retry shortly.",
        retry_after=timedelta(seconds=1),
    )


def gateway_unavailable(seconds: float = 2.0) -> ServiceError:
    """UNAVAILABLE: Stripe cannot be asked now, and nothing has happened."""
    return ServiceError(
        StatusCode.UNAVAILABLE,
        reason_pb2.REASON_GATEWAY_UNAVAILABLE,
        "The payment provider does not answer: try again shortly. No money was taken.",
        retry_after=timedelta(seconds=seconds),
    )


def method_invalid(payment_id: object, message: str) -> ServiceError:
    """INVALID_ARGUMENT: this payment method cannot pay this."""
    return ServiceError(
        StatusCode.INVALID_ARGUMENT,
        reason_pb2.REASON_PAYMENT_METHOD_INVALID,
        message,
        metadata={"payment_id": str(payment_id)},
    )


def check_not_failed(payment: Fields) -> None:
    """Raise what the caller of a failed payment has to be told."""
    if payment["status"] != FAILED:
        return
    code, message = payment["failure_code"], payment["failure_message"]
    if code == NOT_RECEIVED:
        raise gateway_unavailable()
    if not payment["intent_id"]:
        raise method_invalid(payment["id"], message)
    raise errors.failed_precondition(
        reason_pb2.REASON_CARD_DECLINED, message, payment_id=str(payment["id"]), decline_code=code
    )


def check_confirmable(payment: Fields) -> None:
    """Raise PAYMENT_NOT_CONFIRMABLE unless asking Stripe can lead somewhere, or has led there."""
    status = payment["status"]
    if status in CAPTURED or status == FAILED or (status in OPEN and payment["intent_id"]):
        return
    raise errors.failed_precondition(
        reason_pb2.REASON_PAYMENT_NOT_CONFIRMABLE,
        "The payment is not waiting for a confirmation.",
        status=Payment.Status.Name(status),
    )
