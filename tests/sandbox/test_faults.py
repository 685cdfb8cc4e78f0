"""Faults: what is lost, late, wrong or refused on order, and what has truly happened meanwhile."""

from __future__ import annotations

import time

import pytest
import stripe

from tests.sandbox.purchases import order, pay
from tests.sandbox.running import Sandbox


def charges(client: stripe.StripeClient) -> int:
    return len(client.v1.charges.list({"limit": 100}).data)


@pytest.mark.parametrize(("kind", "executed"), [("lose_answer", 1), ("lose_request", 0)])
def test_a_lost_connection_is_tried_again_with_the_same_key(
    sandbox: Sandbox, client: stripe.StripeClient, kind: str, executed: int
) -> None:
    sandbox.fault(kind, match={"path": "/v1/payment_intents"})
    with pytest.raises(stripe.APIConnectionError):
        client.v1.payment_intents.create(order(), {"idempotency_key": "k"})
    assert charges(client) == executed
    made = client.v1.payment_intents.create(order(), {"idempotency_key": "k"})
    assert (made.status, charges(client)) == ("succeeded", 1)


def test_a_late_answer_has_happened(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    sandbox.fault("delay_answer", seconds=0.4)
    started = time.monotonic()
    pay(client)
    assert time.monotonic() - started >= 0.4
    assert charges(client) == 1


def test_a_500_before_leaves_the_key_free(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    sandbox.fault("server_error", match={"method": "POST"})
    with pytest.raises(stripe.APIError) as raised:
        client.v1.payment_intents.create(order(), {"idempotency_key": "k"})
    assert (raised.value.http_status, charges(client)) == (500, 0)
    client.v1.payment_intents.create(order(), {"idempotency_key": "k"})
    assert charges(client) == 1


def test_a_500_after_is_what_the_key_keeps(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    sandbox.fault("server_error_after", match={"method": "POST"})
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            client.v1.payment_intents.create(order(), {"idempotency_key": "k"})
    assert charges(client) == 1


def test_a_rate_limit_is_429_and_nothing_happened(
    sandbox: Sandbox, client: stripe.StripeClient
) -> None:
    sandbox.fault("rate_limit", match={"path": "/v1/payment_intents*"}, times=2)
    for _ in range(2):
        with pytest.raises(stripe.RateLimitError):
            pay(client)
    pay(client)
    assert charges(client) == 1


def test_a_wrong_answer_is_wrong_only_on_the_wire(
    sandbox: Sandbox, client: stripe.StripeClient
) -> None:
    sandbox.fault("wrong_answer", set={"amount": 1, "currency": "eur"})
    told = pay(client)
    assert (told.amount, told.currency) == (1, "eur")
    true = client.v1.payment_intents.retrieve(told.id)
    assert (true.amount, true.currency) == (2500, "usd")


def test_faults_fit_by_key_and_chance_and_can_be_taken_back(
    sandbox: Sandbox, client: stripe.StripeClient
) -> None:
    sandbox.fault("server_error", match={"idempotency_key": "bad*"}, times=None)
    sandbox.fault("rate_limit", probability=0)
    with pytest.raises(stripe.APIError):
        client.v1.payment_intents.create(order(), {"idempotency_key": "bad-1"})
    client.v1.payment_intents.create(order(), {"idempotency_key": "good"})
    [first, second] = sandbox.control("GET", "/faults")["faults"]
    assert (first["used"], second["used"]) == (1, 0)
    sandbox.control("DELETE", f"/faults/{first['id']}")
    client.v1.payment_intents.create(order(), {"idempotency_key": "bad-1"})
    sandbox.control("DELETE", "/faults")
    assert sandbox.control("GET", "/faults") == {"faults": []}


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "explode"},
        {"kind": "rate_limit", "times": 0},
        {"kind": "rate_limit", "match": {"colour": "*"}},
        {"kind": "rate_limit", "probability": 2},
        {"kind": "rate_limit", "surprise": 1},
        {"kind": "wrong_answer", "set": [1]},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(sandbox: Sandbox, wrong: dict[str, object]) -> None:
    answer = sandbox.http.post("/_sandbox/faults", json=wrong)
    assert answer.status_code == 400
    assert sandbox.control("GET", "/faults") == {"faults": []}


def test_the_control_path_takes_no_forms(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    pay(client)
    answer = sandbox.http.post("/_sandbox/reset", content="a=b")
    assert (answer.status_code, charges(client)) == (400, 1)


def test_requests_are_remembered(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    sandbox.fault("delay_answer", seconds=0)
    client.v1.payment_intents.create(order(), {"idempotency_key": "k"})
    client.v1.payment_intents.create(order(), {"idempotency_key": "k"})
    first, second = sandbox.seen()
    assert (first["path"], first["status"]) == ("/v1/payment_intents", 200)
    assert (first["idempotency_key"], first["replayed"]) == ("k", False)
    assert (first["faults"], second["replayed"]) == (["delay_answer"], True)
    assert first["parameters"]["amount"] == "2500"
