"""HandleStripeWebhook: only what Stripe signed, just now; each event once, in whatever order."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from typing import Any

import pytest
from grpc import StatusCode

from shop.order.v1.order_pb2 import Order
from shop.payment.v1.payment_pb2 import Payment
from tests.payment.neighbours import Sold
from tests.payment.till import Till, sign
from tests.running import refused
from tests.sizes import size

BODY = json.dumps(
    {
        "id": "evt_1",
        "type": "customer.created",
        "created": 1,
        "data": {"object": {"object": "customer", "id": "cus_1"}},
    }
).encode()


async def number_of_events(till: Till) -> int:
    return int(await till.connection.fetchval("SELECT count(*) FROM payment.events"))


def made(how: dict[str, Any]) -> dict[str, Any]:
    """A signature that is `made` has to be of now, not of when the tests were collected."""
    return {"signature": how["made"]()} if "made" in how else how


class TestSignatures:
    @pytest.mark.parametrize(
        "how",
        [
            {"secret": "whsec_new"},
            {"secret": "whsec_old"},
            {"age": 299.0},
            {"age": -299.0},
            {"made": lambda: f"{sign(BODY, 'whsec_gone')},v1={sign(BODY, 'whsec_old')[-64:]}"},
        ],
        ids=["new secret", "rolled secret", "299 s ago", "299 s ahead", "two signatures"],
    )
    async def test_what_stripe_signed_is_taken(self, till: Till, how: dict[str, Any]) -> None:
        await till.send(BODY, **made(how))
        assert await number_of_events(till) == 1

    @pytest.mark.parametrize(
        "how",
        [
            {"signature": ""},
            {"secret": "whsec_other"},
            {"made": lambda: sign(BODY + b" ", "whsec_new")},
            {"age": 301.5},
            {"age": -301.5},
            {"signature": "t=now,v1=" + "0" * 64},
            {"made": lambda: sign(BODY, "whsec_new").replace("v1=", "v0=")},
            {"signature": "t=" + "9" * 400},
            {"made": lambda: sign(BODY, "whsec_new").partition(",")[2]},
        ],
        ids=[
            "unsigned",
            "wrong secret",
            "tampered",
            "301 s ago",
            "301 s ahead",
            "no time",
            "an old scheme",
            "rubbish",
            "without its time",
        ],
    )
    async def test_what_stripe_did_not_sign_is_refused(
        self, till: Till, how: dict[str, Any]
    ) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "WEBHOOK_SIGNATURE_INVALID"):
            await till.send(BODY, **made(how))
        assert await number_of_events(till) == 0

    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b"[]",
            b"{}",
            b'{"id": 1}',
            BODY.replace(b"evt_1", b"\\u0000"),
            b'{"id": "evt_1", "type": "refund.created", "created": 1, "data": {"object": []}}',
            *(
                b'{"id": "evt_1", "type": "refund.created", "created": 1, "data": {"object": '
                b'{"object": "refund", "payment_intent": "pi_1", "metadata": %s}}}' % metadata
                for metadata in (b"7", b'"x"', b"[[]]")
            ),
        ],
    )
    async def test_what_is_signed_and_yet_no_event_is_malformed(
        self, till: Till, body: bytes
    ) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST"):
            await till.send(body)


class TestEvents:
    async def test_an_event_settles_what_the_customer_never_confirmed(self, till: Till) -> None:
        order = till.sell()
        payment = await till.pay(order, "threeDSecureRequired")
        till.three_d_secure(payment)
        for event in till.events():
            await till.tell(event)
        await till.until_order(order, Order.PAID)
        assert (await till.get(payment)).status == Payment.SUCCEEDED

    async def test_events_of_others_and_of_unknown_types_are_taken(self, till: Till) -> None:
        client = till.stripe.client()
        theirs = client.v1.payment_intents.create({"amount": 500, "currency": "eur"})
        for event in till.events():
            await till.tell(event)
        await till.send(BODY)
        assert await number_of_events(till) == 2
        ours = await till.connection.fetch("SELECT intent_id FROM payment.payments")
        assert theirs.id not in {row["intent_id"] for row in ours}

    async def test_five_copies_at_once_have_one_effect(self, till: Till) -> None:
        """P10: 1,000 events; the payments here have five each, of which one tells of a refund."""
        number = size(200, 10)
        payments = [await till.pay(till.sell()) for _ in range(number)]
        for payment in payments:
            await till.refund(payment, 1_000)
        events = till.events()
        copies = [event for event in events for _ in range(5)]
        random.Random(1).shuffle(copies)
        waiting = asyncio.Semaphore(20)

        async def tell(event: dict[str, Any]) -> None:
            async with waiting:
                await till.tell(event)

        await asyncio.gather(*(tell(event) for event in copies))
        await till.until_quiet()
        assert await number_of_events(till) == len(events)
        for payment in payments:
            now = await till.get(payment)
            assert (now.status, len(now.refunds)) == (Payment.PARTIALLY_REFUNDED, 1)
        assert len(till.captured()) == len(till.repayments()) == number
        assert len(events) >= 5 * number

    async def test_every_order_of_five_events_ends_the_same(self, till: Till) -> None:
        """Made, asked for 3-D Secure, paid, charged, given back: `make promises` has all orders."""
        wanted = (
            "payment_intent.created",
            "payment_intent.requires_action",
            "payment_intent.succeeded",
            "charge.succeeded",
            "charge.refunded",
        )
        waiting = asyncio.Semaphore(8)

        async def begin() -> tuple[Sold, Payment]:
            order = till.sell(10_000)
            async with waiting:
                return order, await till.pay(order, "threeDSecureRequired")

        every = list(itertools.permutations(range(len(wanted))))
        orderings = random.Random(1).sample(every, size(len(every), 40))
        begun = await asyncio.gather(*(begin() for _ in orderings))
        told: dict[str, dict[str, Any]] = {}
        for _, payment in begun:
            till.three_d_secure(payment)
        client = till.stripe.client()
        for intent in till.captured():
            client.v1.refunds.create({"payment_intent": intent["id"], "amount": 2_500})
        for event in till.events():
            subject = event["data"]["object"]
            told.setdefault(subject["metadata"].get("payment_id", ""), {})[event["type"]] = event

        async def tell(payment: Payment, ordering: tuple[int, ...]) -> None:
            for index in ordering:
                async with waiting:
                    await till.tell(told[payment.id][wanted[index]])

        pairs = zip(begun, orderings, strict=True)
        await asyncio.gather(*(tell(payment, ordering) for (_, payment), ordering in pairs))
        await till.until_quiet()
        endings = set()
        for order, payment in begun:
            now = await till.get(payment)
            endings.add((now.status, now.refunded_amount.units, len(now.refunds), order.status))
        assert endings == {(Payment.PARTIALLY_REFUNDED, 25, 1, Order.PARTIALLY_REFUNDED)}


class TestDisputes:
    async def test_a_dispute_is_recorded_and_shown(self, till: Till) -> None:
        payment = await till.pay(till.sell(10_000), "createDispute")
        for event in till.events():
            await till.tell(event)
        now = await till.get(payment)
        [dispute] = now.disputes
        assert (dispute.reason, dispute.status) == ("fraudulent", "needs_response")
        assert (dispute.amount.units, dispute.amount.currency_code) == (100, "EUR")
        assert now.etag != payment.etag

    async def test_older_news_of_a_dispute_change_nothing(self, till: Till) -> None:
        payment = await till.pay(till.sell(), "createDispute")
        [event] = [each for each in till.events() if each["type"] == "charge.dispute.created"]
        lost = json.loads(json.dumps(event))
        lost |= {"id": "evt_lost", "type": "charge.dispute.closed"}
        lost["data"]["object"]["status"] = "lost"
        await till.tell(lost)
        await till.tell(event)
        [dispute] = (await till.get(payment)).disputes
        assert dispute.status == "lost"

    async def test_a_dispute_that_comes_before_the_answer_is_shown_after_it(
        self, till: Till
    ) -> None:
        order = till.sell()
        till.stripe.fault("lose_answer", match={"path": "/v1/payment_intents", "method": "POST"})
        payment = await till.pay(order, "createDispute")
        [event] = [each for each in till.events() if each["type"] == "charge.dispute.created"]
        await till.tell(event)
        settled = await till.until_status(payment, Payment.SUCCEEDED)
        assert len(settled.disputes) == 1
