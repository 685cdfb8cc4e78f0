"""Purchases as a shop makes them: cards only, confirmed when created."""

from __future__ import annotations

from typing import Any

import stripe


def order(method: str = "pm_card_visa", amount: int = 2500, **more: Any) -> Any:
    """The parameters of a confirmed PaymentIntent."""
    return {
        "amount": amount,
        "currency": "usd",
        "payment_method": method,
        "allowed_payment_method_types": ["card"],
        "confirm": True,
        **more,
    }


def pay(
    client: stripe.StripeClient, method: str = "pm_card_visa", amount: int = 2500, **more: Any
) -> stripe.PaymentIntent:
    return client.v1.payment_intents.create(order(method, amount, **more))


def balance(client: stripe.StripeClient) -> dict[str, int]:
    """What the account has, in minor units by currency."""
    found = client.v1.balance.retrieve().available
    return {line.currency: line.amount for line in found if line.amount}


def error_of(raised: Any) -> dict[str, Any]:
    """The error object of an answer, as it was sent."""
    body = raised.value.json_body
    assert isinstance(body, dict)
    error: dict[str, Any] = body["error"]
    return error
