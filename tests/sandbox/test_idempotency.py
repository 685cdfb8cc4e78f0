"""Idempotency keys: one effect, one answer, for 24 hours."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import stripe

from tests.sandbox.purchases import error_of, order, pay
from tests.sandbox.running import KEY, Sandbox


def test_the_same_request_gets_the_saved_answer(client: stripe.StripeClient) -> None:
    asked = order()
    first = client.v1.payment_intents.create(asked, {"idempotency_key": "k1"})
    again = client.v1.payment_intents.create(asked, {"idempotency_key": "k1"})
    assert again.to_dict() == first.to_dict()
    headers = again.last_response.headers  # type: ignore[union-attr]
    assert headers["idempotent-replayed"] == "true"
    assert headers["original-request"] == first.last_response.request_id  # type: ignore[union-attr]
    assert headers["request-id"] != headers["original-request"]
    assert "idempotent-replayed" not in first.last_response.headers  # type: ignore[union-attr]
    assert len(client.v1.payment_intents.list().data) == 1


async def test_a_hundred_in_parallel_charge_once(
    client: stripe.StripeClient, async_client: stripe.StripeClient
) -> None:
    answers = await asyncio.gather(
        *(
            async_client.v1.payment_intents.create_async(order(), {"idempotency_key": "k"})
            for _ in range(100)
        )
    )
    assert len({each.id for each in answers}) == 1
    assert len(client.v1.charges.list({"limit": 100}).data) == 1


async def test_a_key_in_use_is_a_conflict_until_it_is_answered(
    sandbox: Sandbox, client: stripe.StripeClient, async_client: stripe.StripeClient
) -> None:
    sandbox.fault("delay_request", seconds=0.5)
    answers = await asyncio.gather(
        *(
            async_client.v1.payment_intents.create_async(order(), {"idempotency_key": "k"})
            for _ in range(20)
        ),
        return_exceptions=True,
    )
    conflicts = [each for each in answers if isinstance(each, stripe.StripeError)]
    assert (len(answers) - len(conflicts), len(conflicts)) == (1, 19)
    assert {each.http_status for each in conflicts} == {409}
    bodies: list[Any] = [each.json_body for each in conflicts]
    assert {body["error"]["code"] for body in bodies} == {"idempotency_key_in_use"}
    assert len(client.v1.charges.list().data) == 1


def test_the_sdks_own_retries_ride_out_a_conflict(sandbox: Sandbox) -> None:
    client = sandbox.client(retries=4)
    sandbox.fault("delay_request", seconds=0.4)
    results: list[str] = []

    def run() -> None:
        made = client.v1.payment_intents.create(order(), {"idempotency_key": "k"})
        results.append(made.id)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(results), len(set(results))) == (4, 1)


def test_another_request_with_the_key_is_refused(client: stripe.StripeClient) -> None:
    options: stripe.RequestOptions = {"idempotency_key": "k"}
    intent = client.v1.payment_intents.create(order(), options)
    with pytest.raises(stripe.IdempotencyError) as raised:
        client.v1.payment_intents.create(order(amount=2501), options)
    assert (raised.value.http_status, error_of(raised)["type"]) == (400, "idempotency_error")
    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        client.v1.refunds.create({"payment_intent": intent.id}, options)
    assert len(client.v1.payment_intents.list().data) == 1


def test_a_decline_is_repeated_and_not_tried_again(client: stripe.StripeClient) -> None:
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            client.v1.payment_intents.create(
                order("pm_card_chargeDeclined"), {"idempotency_key": "k"}
            )
    assert len(client.v1.charges.list().data) == 1


def test_parameters_that_did_not_pass_leave_the_key_free(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_intents.create(order(amount=0), {"idempotency_key": "k"})
    made = client.v1.payment_intents.create(order(), {"idempotency_key": "k"})
    assert made.status == "succeeded"


def test_keys_are_forgotten_after_a_day(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    options: stripe.RequestOptions = {"idempotency_key": "k"}
    first = client.v1.payment_intents.create(order(), options)
    sandbox.advance(23 * 3600)
    assert client.v1.payment_intents.create(order(), options).id == first.id
    sandbox.advance(2 * 3600)
    # What makes a blind retry after a day a second charge: look it up instead.
    assert client.v1.payment_intents.create(order(), options).id != first.id


def test_events_name_the_key_that_caused_them(client: stripe.StripeClient) -> None:
    pay_options: stripe.RequestOptions = {"idempotency_key": "k", "api_key": KEY}
    made = client.v1.payment_intents.create(order(), pay_options)
    event = client.v1.events.list({"type": "payment_intent.succeeded"}).data[0]
    assert event.request is not None
    assert event.request.idempotency_key == "k"
    assert event.request.id == made.last_response.request_id  # type: ignore[union-attr]
    assert pay(client).id != made.id
