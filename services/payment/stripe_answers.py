"""Stripe's answers, read as plain objects: a field which is missing is a case, not a crash."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.payment.currencies import UnchargeableError, from_stripe
from services.payment.gateway import Intent, Repayment

Object = Mapping[str, Any]


def intent(told: Object, shop: str) -> Intent:
    """A PaymentIntent; what another shop noted at it is left out."""
    currency = str(told.get("currency") or "").upper()
    metadata = told.get("metadata") or {}
    ours = metadata.get("shop") == shop
    failure = told.get("last_payment_error") or {}
    action = (told.get("next_action") or {}).get("redirect_to_url") or {}
    charge = told.get("latest_charge")
    details = charge.get("payment_method_details") if isinstance(charge, dict) else None
    card = (details or {}).get("card") or {}
    return Intent(
        id=str(told["id"]),
        status=str(told.get("status")),
        amount=_minor(told.get("amount"), currency),
        captured=_minor(told.get("amount_received"), currency),
        currency=currency,
        create_time=datetime.fromtimestamp(told.get("created") or 0, UTC),
        shop=shop if ours else "",
        payment_id=_uuid(metadata.get("payment_id")) if ours else None,
        order_id=_uuid(metadata.get("order_id")) if ours else None,
        user_id=_uuid(metadata.get("user_id")) if ours else None,
        client_secret=told.get("client_secret") or "",
        redirect_url=action.get("url") or "",
        failure_code=failure.get("decline_code") or failure.get("code") or "",
        failure_message=failure.get("message") or "",
        card_brand=card.get("brand") or "",
        card_last4=card.get("last4") or "",
    )


def repayment(told: Object, currency: str, shop: str) -> Repayment:
    """A Refund."""
    metadata = told.get("metadata") or {}
    ours = metadata.get("shop") == shop
    return Repayment(
        id=str(told["id"]),
        status=str(told.get("status")),
        amount=_minor(told.get("amount"), currency),
        refund_id=_uuid(metadata.get("refund_id")) if ours else None,
        failure_code=told.get("failure_reason") or "",
    )


def _minor(amount: object, currency: str) -> int | None:
    if not isinstance(amount, int):
        return None
    try:
        return from_stripe(amount, currency)
    except UnchargeableError:
        return None


def _uuid(text: object) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None
