"""Answers have the fields, types and values of Stripe's published API description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.sandbox.purchases import pay
from tests.sandbox.running import Receiver, Sandbox, eventually
from tests.sandbox.shapes import problems

Make = Callable[[stripe.StripeClient], Any]


def declined(client: stripe.StripeClient) -> Any:
    with pytest.raises(stripe.CardError) as raised:
        pay(client, "pm_card_visa_chargeDeclinedInsufficientFunds")
    body: Any = raised.value.json_body
    return body["error"]["payment_intent"]


def with_action(client: stripe.StripeClient) -> Any:
    return pay(client, "pm_card_authenticationRequired", return_url="https://shop.example/back")


def authorized(client: stripe.StripeClient) -> Any:
    return pay(client, capture_method="manual", expand=["latest_charge"])


def refund(client: stripe.StripeClient) -> Any:
    intent = pay(client, "pm_card_pendingRefund")
    return client.v1.refunds.create(
        {"payment_intent": intent.id, "amount": 1, "expand": ["charge"]}
    )


def dispute(client: stripe.StripeClient) -> Any:
    pay(client, "pm_card_createDispute")
    return client.v1.disputes.list({"expand": ["data.charge"]}).data[0]


CASES: list[tuple[type, Make]] = [
    (stripe.PaymentIntent, pay),
    (
        stripe.PaymentIntent,
        lambda client: pay(client, expand=["payment_method", "latest_charge.balance_transaction"]),
    ),
    (stripe.PaymentIntent, declined),
    (stripe.PaymentIntent, with_action),
    (stripe.PaymentIntent, authorized),
    (stripe.Charge, lambda client: _after_paying(client, client.v1.charges)),
    (stripe.Refund, refund),
    (stripe.Dispute, dispute),
    (stripe.PaymentMethod, lambda client: client.v1.payment_methods.retrieve("pm_card_amex")),
    (
        stripe.BalanceTransaction,
        lambda client: _after_paying(client, client.v1.balance_transactions),
    ),
    (stripe.Balance, lambda client: client.v1.balance.retrieve()),
]


def _after_paying(client: stripe.StripeClient, service: Any) -> Any:
    pay(client)
    return service.list().data[0]


@pytest.mark.parametrize(("cls", "make"), CASES)
def test_an_answer_fits_the_class_made_from_stripes_description(
    client: stripe.StripeClient, cls: type, make: Make
) -> None:
    answer = make(client)
    plain = answer if isinstance(answer, dict) else answer.to_dict()
    assert problems(cls, plain) == []


def test_every_event_type_that_is_sent_is_one_of_stripes(
    sandbox: Sandbox, client: stripe.StripeClient, receiver: Receiver
) -> None:
    for _, make in CASES:
        make(client)
    sandbox.fault("settle_later", seconds=60)
    pay(client)
    sandbox.advance(8 * 86400)
    eventually(lambda: "payment_intent.canceled" in receiver.types(), "the hold expires")
    found = client.v1.events.list({"limit": 100}).data
    assert len({event.type for event in found}) >= 14
    for event in found:
        assert problems(stripe.Event, event.to_dict()) == []


def test_the_check_itself_notices_what_is_wrong(client: stripe.StripeClient) -> None:
    good = pay(client, expand=["latest_charge"]).to_dict()
    for wrong in (
        {"amount": "2500"},
        {"status": "paid"},
        {"colour": "blue"},
        {"latest_charge": good["latest_charge"] | {"outcome": {"type": 7}}},
    ):
        assert problems(stripe.PaymentIntent, good | wrong) != []
    del good["client_secret"], good["currency"]
    assert problems(stripe.PaymentIntent, good) == [".currency: missing"]
