"""What may happen to orders: pure decisions.

`MOVES` is the state machine: every other move is refused, and tests try them all.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from datetime import timedelta
from enum import Enum
from typing import Any, TypeAlias

from grpc import StatusCode

from services.kit import errors
from services.kit.call import Claim
from services.kit.money import from_minor
from services.kit.statements import Fields
from shop.errors.v1 import reason_pb2
from shop.order.v1 import order_pb2
from shop.order.v1.order_pb2 import Order
from shop.order.v1.settlement_pb2 import MarkPaidResponse

Status: TypeAlias = Order.Status.ValueType

PENDING = Order.PENDING
AWAITING_PAYMENT = Order.AWAITING_PAYMENT
PAID = Order.PAID
FULFILLING = Order.FULFILLING
SHIPPED = Order.SHIPPED
DELIVERED = Order.DELIVERED
CANCELLED = Order.CANCELLED
REFUNDED = Order.REFUNDED
PARTIALLY_REFUNDED = Order.PARTIALLY_REFUNDED

ACCEPTED = MarkPaidResponse.ACCEPTED
REFUND = MarkPaidResponse.REFUND

# Without I, L, O and U, which are misread and misheard (Crockford's base 32): 40 bits.
NUMBER_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
MOST_PIECES = 999


class By(Enum):
    """Who moves an order, and on which way."""

    OWNER = "the owner, by UpdateOrder"
    STAFF = "staff, by UpdateOrder"
    CANCEL = "the owner or staff, by CancelOrder"
    SYSTEM = "the shop by itself"


_EVERYBODY = frozenset(By)
_STAFF = frozenset({By.STAFF})
_SYSTEM = frozenset({By.SYSTEM})
_REFUNDS = {REFUNDED: _SYSTEM, PARTIALLY_REFUNDED: _SYSTEM}

MOVES: Mapping[Status, Mapping[Status, Collection[By]]] = {
    PENDING: {AWAITING_PAYMENT: _SYSTEM, CANCELLED: _EVERYBODY},
    AWAITING_PAYMENT: {PAID: _SYSTEM, CANCELLED: _EVERYBODY},
    PAID: {FULFILLING: _STAFF, CANCELLED: {By.STAFF, By.CANCEL, By.SYSTEM}, **_REFUNDS},
    # By the shop itself only when it turns out that the goods have been sold to others.
    FULFILLING: {SHIPPED: _STAFF, CANCELLED: _SYSTEM, **_REFUNDS},
    SHIPPED: {DELIVERED: _STAFF, **_REFUNDS},
    DELIVERED: _REFUNDS,
    CANCELLED: {},
    REFUNDED: {},
    # Something was given back, the rest goes its way from wherever it was.
    PARTIALLY_REFUNDED: {
        FULFILLING: _STAFF,
        SHIPPED: _STAFF,
        DELIVERED: _STAFF,
        REFUNDED: _SYSTEM,
    },
}


def allowed(status: Status, by: By) -> list[Status]:
    """Where an order may go from `status`."""
    return [to for to, who in MOVES[status].items() if by in who]


def check_move(order: Fields, to: Status, by: By) -> None:
    """Raise STATUS_CHANGE_FORBIDDEN, naming what is allowed, unless the order may go there."""
    names = [Order.Status.Name(status) for status in allowed(order["status"], by)]
    name = Order.Status.Name(to)
    if name not in names:
        before = Order.Status.Name(order["status"])
        choice = " or ".join(names) or "no other status"
        raise errors.failed_precondition(
            reason_pb2.REASON_STATUS_CHANGE_FORBIDDEN,
            f"An order that is {before} cannot become {name}, but {choice}.",
            **{"from": before, "to": name, "allowed": ",".join(names)},
        )


def actor(by: By, *, owner: bool) -> order_pb2.OrderEvent.Actor.ValueType:
    """Who stands at an event."""
    if by is By.SYSTEM:
        return order_pb2.OrderEvent.SYSTEM
    if by is By.OWNER or (by is By.CANCEL and owner):
        return order_pb2.OrderEvent.OWNER
    return order_pb2.OrderEvent.STAFF


def check_role(changes: Mapping[str, Any], by: By) -> None:
    """Raise ROLE_REQUIRED for what its owner may not change of an order."""
    if by is By.OWNER and changes != {"status": CANCELLED}:
        raise errors.permission_denied(
            reason_pb2.REASON_ROLE_REQUIRED,
            "The owner of an order may only set its status to CANCELLED.",
            role="STAFF",
        )


def check_changes(changes: Mapping[str, Any]) -> None:
    """Raise INVALID_ARGUMENT for a mask that clears the status."""
    if changes.get("status") == Order.STATUS_UNSPECIFIED:
        raise errors.invalid_field("status", "cannot be cleared")


def holds_paid_cart(order: Fields) -> bool:
    """Whether what an order holds is still to be taken out of its cart."""
    over = (PENDING, AWAITING_PAYMENT, CANCELLED)
    return (
        order["cart_id"] is not None and not order["cart_cleared"] and order["status"] not in over
    )


def is_final(order: Fields) -> bool:
    """Whether nothing can happen to an order any more."""
    if order["status"] == CANCELLED:
        return order["payment_id"] is None or bool(order["refunded_total"] == order["total"])
    return bool(order["status"] == REFUNDED)


def new_number() -> str:
    """A number to talk about on the telephone. It tells nobody how many orders there are."""
    bits = secrets.randbits(40)
    letters = "".join(NUMBER_LETTERS[bits >> place & 31] for place in range(0, 40, 5))
    return f"{letters[:4]}-{letters[4:]}"


def check_same_request(order: Fields, claim: Claim) -> None:
    """Raise IDEMPOTENCY_KEY_REUSED unless the order was made by a request like this one."""
    if not claim.is_of(order["fingerprint"]):
        raise errors.failed_precondition(
            reason_pb2.REASON_IDEMPOTENCY_KEY_REUSED,
            "This idempotency-key was used with another request: take a new one.",
        )


def check_pieces(pieces: Mapping[Any, int]) -> None:
    """Raise LIMIT_REACHED when too many of one thing are ordered."""
    if max(pieces.values()) > MOST_PIECES:
        raise errors.failed_precondition(
            reason_pb2.REASON_LIMIT_REACHED,
            f"An order has at most {MOST_PIECES} pieces of a variant.",
            resource="pieces",
            limit=str(MOST_PIECES),
        )


def check_expected(order: Fields, total: int, currency: str) -> None:
    """Raise TOTAL_CHANGED unless the order costs what the customer was told, if they were."""
    if order["expected_currency"] is None:
        return
    if (order["expected_total"], order["expected_currency"]) != (total, currency):
        now = from_minor(total, currency)
        raise errors.failed_precondition(
            reason_pb2.REASON_TOTAL_CHANGED,
            "The order costs something else than expected; nothing was ordered.",
            currency_code=currency,
            units=str(now.units),
            nanos=str(now.nanos),
        )


# --- Settlement ---------------------------------------------------------------------------------


def check_captured(order: Fields, amount: int, currency: str) -> None:
    """Raise AMOUNT_MISMATCH unless an amount is the order's total.

    An order without one was cancelled before it was placed: whatever was paid is given back.
    """
    if order["total"] is None and order["status"] == CANCELLED:
        return
    if (amount, currency) != (order["total"], order["currency"]):
        raise _amount_mismatch("The order's total is another one.")


def check_refunded(order: Fields, refunded: int, currency: str) -> None:
    """Raise AMOUNT_MISMATCH when more is said to be given back than can have been paid."""
    if order["total"] is None and order["status"] == CANCELLED:
        return
    if order["total"] is None or currency != order["currency"] or refunded > order["total"]:
        raise _amount_mismatch("More was given back than the order's total.")


def outcome(order: Fields, settlement: Fields) -> MarkPaidResponse.Outcome.ValueType:
    """What becomes of captured money: kept, if it pays an order that waits for it."""
    if settlement["outcome"]:
        told: MarkPaidResponse.Outcome.ValueType = settlement["outcome"]
        return told
    kept = settlement["refunded"] < order["total"] if order["total"] else False
    return ACCEPTED if order["status"] == AWAITING_PAYMENT and kept else REFUND


def status_after_refund(order: Fields, refunded: int) -> Status:
    """Where a paid order stands once so much of its payment has been given back."""
    if order["status"] == CANCELLED:
        return CANCELLED
    return REFUNDED if refunded == order["total"] else PARTIALLY_REFUNDED


def conflict() -> errors.ServiceError:
    """ABORTED: another call is ordering the same."""
    return errors.ServiceError(
        StatusCode.ABORTED,
        reason_pb2.REASON_TRANSACTION_CONFLICT,
        "Another call is ordering the same thing: try again.",
        retry_after=timedelta(seconds=0.1),
    )


def _amount_mismatch(message: str) -> errors.ServiceError:
    return errors.failed_precondition(reason_pb2.REASON_AMOUNT_MISMATCH, message)
