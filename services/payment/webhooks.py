"""Stripe's webhooks: whether one is genuine, and what it says.

https://docs.stripe.com/webhooks: `stripe-signature: t=<seconds>,v1=<hex HMAC-SHA256 of "t.body">`,
with several v1 while a secret is rolled. The SDK's own check accepts times in the future.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from grpc import StatusCode

from services.kit import errors
from services.kit.errors import ServiceError
from services.payment.currencies import UnchargeableError, from_stripe
from shop.errors.v1 import reason_pb2

HEADER = "stripe-signature"
TOLERANCE_SECONDS = 300
LONGEST_HEADER = 4096
# What Stripe's ids are far below.
LONGEST_ID = 255


@dataclass(frozen=True, slots=True)
class Event:
    """What an event is about: a PaymentIntent, by its id or by what we noted at it; a dispute."""

    id: str
    type: str
    create_time: datetime
    intent_id: str | None = None
    payment_id: UUID | None = None
    tells_of_refunds: bool = False
    dispute: Mapping[str, Any] | None = None


def verify(header: str, body: bytes, secrets: Sequence[str], now: float) -> None:
    """Raise INVALID_ARGUMENT unless one of our secrets signed this, within five minutes of now."""
    times, signatures = _parts(header)
    if not times or abs(now - int(times[0])) > TOLERANCE_SECONDS:
        raise _invalid()
    signed = times[0].encode() + b"." + body
    for secret in secrets:
        expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        if any(hmac.compare_digest(expected, given) for given in signatures):
            return
    raise _invalid()


def _parts(header: str) -> tuple[list[str], list[str]]:
    times, signatures = [], []
    if len(header) <= LONGEST_HEADER and header.isascii():
        for part in header.split(","):
            name, _, value = part.strip().partition("=")
            if name == "t" and value.isdigit() and len(value) <= 12:
                times.append(value)
            elif name == "v1":
                signatures.append(value)
    return times, signatures


def _invalid() -> ServiceError:
    return ServiceError(
        StatusCode.INVALID_ARGUMENT,
        reason_pb2.REASON_WEBHOOK_SIGNATURE_INVALID,
        "The event is not signed by the payment provider, or not now.",
    )


def read(body: bytes) -> Event:
    """A verified event. Raises INVALID_ARGUMENT for what is not one."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise errors.malformed() from None
    return event(told)


def event(told: Any) -> Event:
    """An event as Stripe's API and its webhooks show it. Raises INVALID_ARGUMENT for others."""
    try:
        subject = told["data"]["object"]
        bare = Event(
            id=_text(told["id"]),
            type=_text(told["type"]),
            create_time=datetime.fromtimestamp(told["created"], UTC),
        )
        return _about(bare, subject)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError):
        raise errors.malformed() from None


def _about(event: Event, subject: Mapping[str, Any]) -> Event:
    kind = subject.get("object")
    if kind == "payment_intent":
        intent: Any = subject["id"]
    elif kind in ("charge", "refund", "dispute"):
        intent = subject.get("payment_intent")
    else:
        return event
    if isinstance(intent, Mapping):
        intent = intent["id"]
    if intent is None:
        return event
    noted = (subject.get("metadata") or {}).get("payment_id")
    return Event(
        event.id,
        event.type,
        event.create_time,
        intent_id=_text(intent),
        payment_id=_uuid(noted),
        tells_of_refunds="refund" in event.type,
        dispute=_dispute(subject, _text(intent)) if kind == "dispute" else None,
    )


def _dispute(subject: Mapping[str, Any], intent_id: str) -> dict[str, Any] | None:
    currency = _text(subject["currency"]).upper()
    try:
        amount = from_stripe(subject["amount"], currency)
    except UnchargeableError:
        return None
    return {
        "id": _text(subject["id"]),
        "intent_id": intent_id,
        "amount": amount,
        "currency": currency,
        "reason": _text(subject["reason"]),
        "status": _text(subject["status"]),
        "create_time": datetime.fromtimestamp(subject["created"], UTC),
    }


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value or len(value) > LONGEST_ID:
        raise ValueError("not a text")
    return value


def _uuid(text: object) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None
