"""Refunds: in parts, in parallel, slow ones and failing ones, and never more than was captured."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import stripe

from tests.sandbox.purchases import error_of, pay
from tests.sandbox.running import Sandbox, eventually


def test_parts_add_up_to_the_whole_and_no_further(client: stripe.StripeClient) -> None:
    intent = pay(client, amount=1000)
    first = client.v1.refunds.create(
        {"payment_intent": intent.id, "amount": 300, "reason": "requested_by_customer"}
    )
    assert (first.status, first.amount, first.charge) == ("succeeded", 300, intent.latest_charge)
    with pytest.raises(stripe.InvalidRequestError) as raised:
        client.v1.refunds.create({"payment_intent": intent.id, "amount": 701})
    assert error_of(raised)["param"] == "amount"
    rest = client.v1.refunds.create({"charge": str(intent.latest_charge)})
    assert rest.amount == 700
    with pytest.raises(stripe.InvalidRequestError) as raised:
        client.v1.refunds.create({"payment_intent": intent.id})
    assert error_of(raised)["code"] == "charge_already_refunded"
    charge = client.v1.charges.retrieve(str(intent.latest_charge), {"expand": ["refunds"]})
    assert (charge.refunded, charge.amount_refunded) == (True, 1000)
    assert charge.refunds is not None
    assert [each.id for each in charge.refunds.data] == [rest.id, first.id]
    assert client.v1.balance.retrieve().available[0].amount == 0


async def test_fifty_parallel_refunds_of_thirty_percent_are_three(
    sandbox: Sandbox, client: stripe.StripeClient, async_client: stripe.StripeClient
) -> None:
    intent = pay(client, amount=1000)
    # Spread out, so that they truly overlap in the server.
    sandbox.fault("delay_request", match={"path": "/v1/refunds"}, seconds=0.05, times=None)
    answers = await asyncio.gather(
        *(
            async_client.v1.refunds.create_async({"payment_intent": intent.id, "amount": 300})
            for _ in range(50)
        ),
        return_exceptions=True,
    )
    given = [each for each in answers if isinstance(each, stripe.Refund)]
    refused = [each for each in answers if isinstance(each, stripe.InvalidRequestError)]
    assert (len(given), len(refused)) == (3, 47)
    assert client.v1.balance.retrieve().available[0].amount == 100


@pytest.mark.parametrize("status", ["uncaptured", "declined", "unknown", "none"])
def test_what_was_not_captured_cannot_be_refunded(client: stripe.StripeClient, status: str) -> None:
    asked: Any = {"payment_intent": "pi_nobody"}
    if status == "uncaptured":
        asked = {"payment_intent": pay(client, capture_method="manual").id}
    elif status == "declined":
        with pytest.raises(stripe.CardError) as raised:
            pay(client, "pm_card_chargeDeclined")
        asked = {"payment_intent": error_of(raised)["payment_intent"]["id"]}
    elif status == "none":
        asked = {}
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.refunds.create(asked)
    assert client.v1.refunds.list().data == []


def test_a_pending_refund_arrives_later(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    intent = pay(client, "pm_card_pendingRefund")
    refund = client.v1.refunds.create({"payment_intent": intent.id})
    assert refund.status == "pending"
    sandbox.advance(60)
    eventually(lambda: client.v1.refunds.retrieve(refund.id).status == "succeeded", "it arrives")


def test_a_failed_refund_returns_the_money_and_can_be_made_again(
    sandbox: Sandbox, client: stripe.StripeClient
) -> None:
    intent = pay(client, "pm_card_refundFail", amount=1000)
    refund = client.v1.refunds.create({"payment_intent": intent.id, "amount": 600})
    sandbox.advance(60)
    eventually(lambda: client.v1.refunds.retrieve(refund.id).status == "failed", "it fails")
    assert client.v1.balance.retrieve().available[0].amount == 1000
    charge = client.v1.charges.retrieve(str(intent.latest_charge))
    assert (charge.amount_refunded, charge.refunded) == (0, False)
    types = [each.type for each in client.v1.events.list({"type": "refund.*"}).data]
    assert types == ["refund.failed", "refund.updated", "refund.created"]
    assert client.v1.refunds.create({"payment_intent": intent.id}).amount == 1000


def test_lists_are_of_one_payment(client: stripe.StripeClient) -> None:
    one, other = pay(client), pay(client)
    refund = client.v1.refunds.create(
        {"payment_intent": one.id, "amount": 5, "metadata": {"a": "b"}}
    )
    client.v1.refunds.create({"payment_intent": other.id})
    found = client.v1.refunds.list({"payment_intent": one.id})
    assert [each.id for each in found.data] == [refund.id]
    changed = client.v1.refunds.update(refund.id, {"metadata": {"a": "c"}})
    assert changed.metadata is not None
    assert changed.metadata["a"] == "c"
