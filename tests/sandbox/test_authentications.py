"""3-D Secure: the payment waits for the customer's decision on the issuer's page."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import stripe

from tests.sandbox.purchases import error_of, pay
from tests.sandbox.running import Sandbox

BACK = "https://shop.example/back?order=7"


def ask(
    client: stripe.StripeClient, method: str = "pm_card_authenticationRequired", **more: Any
) -> Any:
    intent = pay(client, method, return_url=BACK, **more)
    assert intent.status == "requires_action"
    assert intent.next_action is not None
    assert intent.next_action.type == "redirect_to_url"
    return intent


def page_of(intent: Any) -> str:
    url = intent.next_action.redirect_to_url.url
    assert isinstance(url, str)
    return url


def decide(sandbox: Sandbox, intent: Any, decision: str) -> dict[str, list[str]]:
    """Press a button of the page; answers the query with which the shop is called back."""
    answer = sandbox.http.post(page_of(intent), data={"decision": decision})
    assert answer.status_code == 303
    target = answer.headers["location"]
    assert target.startswith(BACK)
    return parse_qs(urlsplit(target).query)


def test_the_page_asks_and_has_two_buttons(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    page = sandbox.http.get(page_of(ask(client)))
    assert page.status_code == 200
    assert "25.00 USD" in page.text
    assert "visa card ending in 3184" in page.text
    assert page.text.count("<button") == 2
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "method",
    [
        "pm_card_authenticationRequired",
        "pm_card_threeDSecure2Required",
        "pm_card_threeDSecureRequired",
    ],
)
def test_approval_pays_and_goes_back_to_the_shop(
    sandbox: Sandbox, client: stripe.StripeClient, method: str
) -> None:
    intent = ask(client, method)
    assert intent.latest_charge is None
    query = decide(sandbox, intent, "approve")
    assert query["order"] == ["7"]
    assert query["payment_intent"] == [intent.id]
    assert query["redirect_status"] == ["succeeded"]
    paid = client.v1.payment_intents.retrieve(intent.id, {"expand": ["latest_charge"]})
    assert (paid.status, paid.next_action) == ("succeeded", None)
    assert isinstance(paid.latest_charge, stripe.Charge)
    details: Any = paid.latest_charge.payment_method_details
    assert details.card.three_d_secure.result == "authenticated"


def test_refusal_fails_the_attempt_without_a_charge(
    sandbox: Sandbox, client: stripe.StripeClient
) -> None:
    intent = ask(client)
    assert decide(sandbox, intent, "refuse")["redirect_status"] == ["failed"]
    failed = client.v1.payment_intents.retrieve(intent.id)
    assert failed.status == "requires_payment_method"
    assert failed.last_payment_error is not None
    assert failed.last_payment_error.code == "payment_intent_authentication_failure"
    assert client.v1.charges.list().data == []


def test_the_first_decision_counts(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    intent = ask(client)
    decide(sandbox, intent, "approve")
    assert decide(sandbox, intent, "refuse")["redirect_status"] == ["succeeded"]
    assert decide(sandbox, intent, "approve")["redirect_status"] == ["succeeded"]
    assert sandbox.http.get(page_of(intent)).status_code == 303
    assert len(client.v1.charges.list().data) == 1


def test_an_approved_card_may_still_be_declined(
    sandbox: Sandbox, client: stripe.StripeClient
) -> None:
    intent = ask(client, "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds")
    assert decide(sandbox, intent, "approve")["redirect_status"] == ["failed"]
    failed = client.v1.payment_intents.retrieve(intent.id)
    assert failed.last_payment_error is not None
    assert failed.last_payment_error.decline_code == "insufficient_funds"


def test_a_page_of_a_canceled_payment_changes_nothing(
    sandbox: Sandbox, client: stripe.StripeClient
) -> None:
    intent = ask(client)
    client.v1.payment_intents.cancel(intent.id)
    assert decide(sandbox, intent, "approve")["redirect_status"] == ["failed"]
    assert client.v1.payment_intents.retrieve(intent.id).status == "canceled"


def test_a_new_attempt_closes_the_old_page(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    first = ask(client)
    second = client.v1.payment_intents.confirm(first.id, {"return_url": BACK})
    assert page_of(second) != page_of(first)
    assert decide(sandbox, first, "approve")["redirect_status"] == ["pending"]
    assert client.v1.payment_intents.retrieve(first.id).status == "requires_action"
    assert decide(sandbox, second, "approve")["redirect_status"] == ["succeeded"]


def test_with_manual_confirmation_the_server_confirms_once_more(
    sandbox: Sandbox, client: stripe.StripeClient
) -> None:
    intent = ask(client, confirmation_method="manual")
    assert decide(sandbox, intent, "approve")["redirect_status"] == ["pending"]
    waiting = client.v1.payment_intents.retrieve(intent.id)
    assert waiting.status == "requires_confirmation"
    assert client.v1.payment_intents.confirm(intent.id).status == "succeeded"


def test_off_session_nobody_can_be_asked(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.CardError) as raised:
        pay(client, "pm_card_authenticationRequired", off_session=True)
    assert error_of(raised)["code"] == "authentication_required"


def test_nonsense_gets_a_page_and_no_effect(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    intent = ask(client)
    wrong: list[httpx.Response] = [
        sandbox.http.get("/3d_secure/payatt_nobody"),
        sandbox.http.post("/3d_secure/payatt_nobody", data={"decision": "approve"}),
        sandbox.http.post(page_of(intent), data={"decision": "perhaps"}),
        sandbox.http.post(page_of(intent), content=b"\xff\x00"),
    ]
    assert [each.status_code for each in wrong] == [404, 404, 400, 400]
    assert client.v1.payment_intents.retrieve(intent.id).status == "requires_action"
