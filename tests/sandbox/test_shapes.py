"""Answers have the fields, types and values of Stripe's published API description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from sandbox.stripe.account import API_VERSION
from tests.sandbox.purchases import pay
from tests.sandbox.running import KEY, Receiver, Sandbox, eventually
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


def _refund_twice(client: stripe.StripeClient) -> None:
    for _ in range(2):
        client.v1.refunds.create({"payment_intent": pay(client).id, "amount": 9999})


def _use_key_twice(client: stripe.StripeClient) -> None:
    for amount in (100, 200):
        client.v1.payment_intents.create(
            {"amount": amount, "currency": "usd"}, {"idempotency_key": "once"}
        )


Refuse = Callable[[stripe.StripeClient], Any]
REFUSALS: dict[str, Refuse] = {
    "declined": lambda client: pay(client, "pm_card_chargeDeclinedInsufficientFunds"),
    "expired": lambda client: pay(client, "pm_card_chargeDeclinedExpiredCard"),
    "malformed": lambda client: pay(client, amount=-1),
    "missing": lambda client: client.v1.payment_intents.create({}),  # type: ignore[typeddict-item]
    "unknown": lambda client: pay(client, colour="blue"),
    "absent": lambda client: client.v1.payment_intents.retrieve("pi_nobody"),
    "out of order": lambda client: client.v1.payment_intents.capture(pay(client).id),
    "refunded twice": _refund_twice,
    "another request's key": _use_key_twice,
    "a live key": lambda client: client.v1.balance.retrieve(options={"api_key": "sk_live_1"}),
}


@pytest.mark.parametrize("refuse", REFUSALS.values(), ids=REFUSALS)
def test_an_error_fits_the_class_made_from_stripes_description(
    client: stripe.StripeClient, refuse: Refuse
) -> None:
    with pytest.raises(stripe.StripeError) as raised:
        refuse(client)
    body: Any = raised.value.json_body
    assert body.keys() == {"error"}
    assert problems(stripe.ErrorObject, body["error"]) == []


def test_lists_and_searches_fit_and_so_does_all_that_is_in_them(
    sandbox: Sandbox, client: stripe.StripeClient
) -> None:
    for _, make in CASES:
        make(client)
    headers = {"authorization": f"Bearer {KEY}"}
    for path, cls in (
        ("payment_intents", stripe.PaymentIntent),
        ("refunds", stripe.Refund),
        ("charges", stripe.Charge),
        ("disputes", stripe.Dispute),
        ("events", stripe.Event),
        ("balance_transactions", stripe.BalanceTransaction),
    ):
        told = sandbox.http.get(f"/v1/{path}", params={"limit": 100}, headers=headers).json()
        assert told["data"], path
        assert told["url"] == f"/v1/{path}"
        assert told.pop("object") == "list"
        assert problems(stripe.ListObject, told | {"data": []}) == []
        assert [text for each in told["data"] for text in problems(cls, each)] == []
    query = {"query": "status:'succeeded'"}
    told = sandbox.http.get("/v1/payment_intents/search", params=query, headers=headers).json()
    assert told["data"]
    assert told.keys() == {"object", "url", "has_more", "next_page", "data"}
    assert told["object"] == "search_result"
    assert [text for each in told["data"] for text in problems(stripe.PaymentIntent, each)] == []


def test_it_speaks_the_version_of_the_installed_sdk() -> None:
    assert stripe.api_version == API_VERSION


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
