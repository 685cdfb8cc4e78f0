"""Webhooks as a shop receives them: signed, at least once, retried, and in any order on request."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest
import stripe

from tests.sandbox.conftest import SECRET
from tests.sandbox.purchases import pay
from tests.sandbox.running import Receiver, Sandbox, eventually

PAID = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


def verified(receiver: Receiver, secret: str = SECRET) -> list[stripe.Event]:
    return [
        stripe.Webhook.construct_event(each.body, each.signature, secret)
        for each in receiver.deliveries
    ]


def test_events_are_signed_for_stripes_own_check(
    client: stripe.StripeClient, receiver: Receiver
) -> None:
    intent = pay(client, metadata={"order_id": "7"})
    eventually(lambda: len(receiver.deliveries) == 3, "three events arrive")
    events = verified(receiver)
    assert [each.type for each in events] == PAID
    assert events[2].data.object["id"] == intent.id
    assert events[2].data.object["metadata"]["order_id"] == "7"
    with pytest.raises(stripe.SignatureVerificationError):
        verified(receiver, "whsec_other")
    altered = receiver.deliveries[0].body.replace(b"2500", b"9999")
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(altered, receiver.deliveries[0].signature, SECRET)


def test_the_api_lists_what_was_sent(client: stripe.StripeClient, receiver: Receiver) -> None:
    pay(client)
    eventually(lambda: len(receiver.deliveries) == 3, "three events arrive")
    listed = client.v1.events.list({"limit": 100}).data
    assert [each.id for each in listed] == [each.event["id"] for each in receiver.deliveries[::-1]]
    eventually(lambda: client.v1.events.retrieve(listed[0].id).pending_webhooks == 0, "all done")
    assert [each.type for each in client.v1.events.list({"type": "charge.*"}).data] == [
        "charge.succeeded"
    ]
    # A wildcard is for `type` alone.
    assert client.v1.events.list({"types": ["charge.*"]}).data == []
    found = client.v1.events.list({"types": ["charge.succeeded", "payment_intent.created"]}).data
    assert [each.type for each in found] == ["charge.succeeded", "payment_intent.created"]


def test_while_a_secret_is_rolled_both_sign(
    sandbox: Sandbox, client: stripe.StripeClient, receiver: Receiver
) -> None:
    sandbox.control("PUT", "/webhook", {"url": receiver.url, "secrets": ["whsec_new", SECRET]})
    pay(client)
    eventually(lambda: len(receiver.deliveries) == 3, "three events arrive")
    assert len(verified(receiver, "whsec_new")) == len(verified(receiver, SECRET)) == 3


def test_a_refused_event_is_sent_again_until_it_is_taken(
    client: stripe.StripeClient, receiver: Receiver
) -> None:
    receiver.answers += [500, 404, 302]
    pay(client)
    eventually(lambda: len(receiver.deliveries) >= 6, "all are taken in the end")
    assert Counter(receiver.types()) == dict.fromkeys(PAID, 2)


def test_advancing_the_clock_brings_retries_forward(
    sandbox: Sandbox, client: stripe.StripeClient, receiver: Receiver
) -> None:
    receiver.answers += [503] * 12
    pay(client)
    started = time.monotonic()
    for count in (3, 6, 9, 12, 15):
        eventually(lambda count=count: len(receiver.deliveries) >= count, "tried again")  # type: ignore[misc]
        sandbox.advance(120)
    assert time.monotonic() - started < 60  # and not minutes, as it would by itself
    # Receivers compare signatures with their own clock: it is not the one that was advanced.
    assert len(verified(receiver)) == len(receiver.deliveries)


def test_dropped_events_are_listed_and_not_sent(
    sandbox: Sandbox, client: stripe.StripeClient, receiver: Receiver
) -> None:
    sandbox.fault("drop_event", match={"type": "payment_intent.*"}, times=None)
    pay(client)
    eventually(lambda: receiver.deliveries, "the charge's event arrives")
    time.sleep(0.2)
    assert receiver.types() == ["charge.succeeded"]
    assert len(client.v1.events.list().data) == 3
    lost = client.v1.events.list({"type": "payment_intent.succeeded"}).data[0]
    sandbox.control("POST", f"/events/{lost.id}/resend", {"copies": 2})
    eventually(lambda: receiver.types().count("payment_intent.succeeded") == 2, "sent after all")


def test_repeated_events_are_the_same_event(
    sandbox: Sandbox, client: stripe.StripeClient, receiver: Receiver
) -> None:
    sandbox.fault("repeat_event", match={"type": "payment_intent.succeeded"}, copies=4)
    pay(client)
    eventually(lambda: len(receiver.deliveries) == 7, "five of one, and two others")
    copies = [d.body for d in receiver.deliveries if d.event["type"] == "payment_intent.succeeded"]
    assert len({json.loads(each)["id"] for each in copies}) == 1


def test_shuffled_events_come_in_another_order(
    sandbox: Sandbox, client: stripe.StripeClient, receiver: Receiver
) -> None:
    sandbox.fault("shuffle_events", times=None, seconds=0.5)
    for _ in range(6):
        pay(client)
    eventually(lambda: len(receiver.deliveries) == 18, "all arrive")
    happened = [each.id for each in client.v1.events.list({"limit": 100}).data[::-1]]
    came = [each.event["id"] for each in receiver.deliveries]
    assert sorted(came) == sorted(happened)
    assert came != happened


def test_without_faults_events_of_a_payment_keep_their_order(
    client: stripe.StripeClient, receiver: Receiver
) -> None:
    intents = [pay(client).id for _ in range(5)]
    eventually(lambda: len(receiver.deliveries) == 15, "all arrive")
    for intent in intents:
        own = [
            each.event["type"]
            for each in receiver.deliveries
            if intent in (each.event["data"]["object"].get(key) for key in ("id", "payment_intent"))
        ]
        assert own == PAID


def test_each_step_of_a_payment_has_its_event(
    sandbox: Sandbox, client: stripe.StripeClient, receiver: Receiver
) -> None:
    refunded = pay(client, "pm_card_pendingRefund")
    client.v1.refunds.create({"payment_intent": refunded.id})
    failed = pay(client, "pm_card_refundFail")
    client.v1.refunds.create({"payment_intent": failed.id})
    pay(client, "pm_card_createDispute")
    with pytest.raises(stripe.CardError):
        pay(client, "pm_card_chargeDeclined")
    asked = pay(client, "pm_card_authenticationRequired", return_url="https://shop.example/")
    client.v1.payment_intents.cancel(asked.id)
    sandbox.fault("settle_later", seconds=60)
    pay(client)
    sandbox.advance(120)
    eventually(
        lambda: (
            {
                *PAID,
                "payment_intent.payment_failed",
                "payment_intent.requires_action",
                "payment_intent.canceled",
                "payment_intent.processing",
                "charge.failed",
                "charge.refunded",
                "charge.dispute.created",
                "refund.created",
                "refund.updated",
                "refund.failed",
            }
            <= set(receiver.types())
        ),
        "every kind of event arrives",
    )
