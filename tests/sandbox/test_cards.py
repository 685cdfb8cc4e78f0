"""Stripe's test cards through the real SDK: who pays, who declines and why, who disputes."""

from __future__ import annotations

import pytest
import stripe

from tests.sandbox.purchases import balance, error_of, pay


@pytest.mark.parametrize(
    ("method", "brand"),
    [("pm_card_visa", "visa"), ("pm_card_mastercard", "mastercard"), ("pm_card_amex", "amex")],
)
def test_brands_are_shown(client: stripe.StripeClient, method: str, brand: str) -> None:
    intent = pay(client, method, expand=["payment_method"])
    assert isinstance(intent.payment_method, stripe.PaymentMethod)
    assert intent.payment_method.id != method
    assert intent.payment_method.card is not None
    assert intent.payment_method.card.brand == brand


@pytest.mark.parametrize(
    ("method", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        (
            "pm_card_visa_chargeDeclinedInsufficientFunds",
            "card_declined",
            "insufficient_funds",
        ),
        ("pm_card_visa_chargeDeclinedStolenCard", "card_declined", "stolen_card"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
    ],
)
def test_a_decline_says_why_and_leaves_the_intent_payable(
    client: stripe.StripeClient, method: str, code: str, decline_code: str
) -> None:
    with pytest.raises(stripe.CardError) as raised:
        pay(client, method)
    error = error_of(raised)
    assert raised.value.http_status == 402
    assert (error["code"], error["decline_code"]) == (code, decline_code)
    intent = client.v1.payment_intents.retrieve(error["payment_intent"]["id"])
    assert (intent.status, intent.payment_method) == ("requires_payment_method", None)
    assert intent.last_payment_error is not None
    assert intent.last_payment_error.code == code
    assert intent.latest_charge == error["charge"]
    assert client.v1.charges.retrieve(error["charge"]).status == "failed"
    paid = client.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})
    assert (paid.status, paid.last_payment_error) == ("succeeded", None)
    assert balance(client) == {"usd": 2500}


def test_a_test_token_makes_a_payment_method(client: stripe.StripeClient) -> None:
    method = client.v1.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}})
    assert pay(client, method.id).payment_method == method.id


def test_a_disputed_card_takes_its_money_back(client: stripe.StripeClient) -> None:
    intent = pay(client, "pm_card_createDispute")
    [dispute] = client.v1.disputes.list({"payment_intent": intent.id}).data
    assert (dispute.status, dispute.reason) == ("needs_response", "fraudulent")
    assert balance(client) == {}
    with pytest.raises(stripe.InvalidRequestError) as raised:
        client.v1.refunds.create({"payment_intent": intent.id})
    assert error_of(raised)["code"] == "charge_disputed"


def test_an_inquiry_moves_no_money_and_can_be_refunded(client: stripe.StripeClient) -> None:
    intent = pay(client, "pm_card_createDisputeInquiry")
    assert balance(client) == {"usd": 2500}
    client.v1.refunds.create({"payment_intent": intent.id})
    assert balance(client) == {}
