"""The reconciler: what nobody was told settles all the same, and nothing is charged by it."""

from __future__ import annotations

import asyncio
import typing
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import stripe
from grpc import StatusCode

from services.kit.db import Database
from services.kit.ids import uuid7
from services.payment.__main__ import Parts, Settings, assemble, reconcile
from services.payment.report import Report
from services.payment.tables import metadata
from services.payment.walks import EVENT_TYPES
from shop.order.v1.order_pb2 import Order
from shop.payment.v1.payment_pb2 import Payment
from tests.payment.till import Till
from tests.running import refused

CREATE = {"path": "/v1/payment_intents", "method": "POST"}


@pytest.fixture
async def parts(settings: Settings, till: Till) -> AsyncIterator[Parts]:
    """A reconciler of another process, which runs when it is told to."""
    url = settings.database_url
    database = await Database.open(url, metadata, name="another")
    parts = assemble(settings, database)
    yield parts
    await parts.gateway.close()
    await database.close()


async def hide(till: Till, payment: Payment) -> None:
    """Keep the reconciler of the service away from a payment, and from walking."""
    await till.connection.execute(
        "UPDATE payment.payments SET check_time = now() + interval '1 day' WHERE id = $1",
        payment.id,
    )
    await keep_from_walking(till)


async def keep_from_walking(till: Till) -> None:
    await till.connection.execute(
        "INSERT INTO payment.walks (name, next_time) SELECT unnest('{intents,news}'::text[]),"
        " now() + interval '1 day' ON CONFLICT (name) DO UPDATE SET next_time = excluded.next_time"
    )


async def walk(till: Till) -> None:
    await till.connection.execute("UPDATE payment.walks SET next_time = now()")


async def status_of(till: Till, payment: Payment) -> int:
    return (await till.get(payment, till.staff)).status


class TestUnknownOutcomes:
    async def test_a_lost_answer_is_unknown_and_then_found(self, till: Till) -> None:
        order = till.sell()
        till.stripe.fault("lose_answer", match=CREATE)
        payment = await till.pay(order)
        assert payment.status == Payment.UNKNOWN
        with refused(StatusCode.FAILED_PRECONDITION, "PAYMENT_IN_PROGRESS"):
            await till.pay(order)
        await till.until_order(order, Order.PAID)  # P6: within 60 s
        assert (await till.get(payment)).card_last4 == "4242"
        assert len(till.intents()) == 1

    async def test_a_lost_decline_is_found_and_the_order_payable(self, till: Till) -> None:
        order = till.sell()
        till.stripe.fault("lose_answer", match=CREATE)
        payment = await till.pay(order, "chargeDeclined")
        failed = await till.until_status(payment, Payment.FAILED)
        assert failed.failure.code == "generic_decline"
        assert (await till.pay(order)).status == Payment.SUCCEEDED

    async def test_a_lost_request_ends_as_failed_and_can_never_arrive(self, till: Till) -> None:
        order = till.sell()
        till.stripe.fault("lose_request", match=CREATE)
        payment = await till.pay(order, key="one")
        assert payment.status == Payment.UNKNOWN
        failed = await till.until_status(payment, Payment.FAILED)
        assert failed.failure.code == "not_received"
        # The request comes after all, delayed somewhere on its way.
        late = till.stripe.http.post(
            "/v1/payment_intents",
            data={"amount": "10000", "currency": "eur", "confirm": "true"},
            headers={"authorization": "Bearer sk_test_tests", "idempotency-key": payment.id},
        )
        assert late.json()["error"]["type"] == "idempotency_error"
        again = await till.pay(order, key="one")
        assert (again.status, again.id != payment.id) == (Payment.SUCCEEDED, True)
        assert len(till.captured()) == 1

    @pytest.mark.parametrize("kind", ["server_error", "server_error_after"])
    async def test_an_internal_error_of_stripes_is_no_answer(self, till: Till, kind: str) -> None:
        order = till.sell()
        till.stripe.fault(kind, match=CREATE)
        payment = await till.pay(order)
        assert payment.status == Payment.UNKNOWN
        if kind == "server_error_after":
            await till.until_order(order, Order.PAID)
        else:
            await till.until_status(payment, Payment.FAILED)
        assert len(till.captured()) == (kind == "server_error_after")

    async def test_an_answer_that_takes_too_long_is_unknown_meanwhile(self, till: Till) -> None:
        order = till.sell()
        till.stripe.fault("delay_answer", match=CREATE, seconds=2.5)
        payment = await till.pay(order, patience=1.8)
        assert payment.status == Payment.UNKNOWN
        await till.until_order(order, Order.PAID)
        assert len(till.captured()) == 1

    async def test_a_caller_who_went_away_has_paid(self, till: Till) -> None:
        order = till.sell()
        till.stripe.fault("delay_answer", match=CREATE, seconds=1)
        call = asyncio.create_task(till.pay(order))
        await till.until_asked()
        call.cancel()
        await till.until_order(order, Order.PAID)


class TestAfterADay:
    async def test_it_is_looked_up_and_not_charged_again(self, till: Till) -> None:
        order = till.sell()
        till.stripe.fault("lose_answer", match=CREATE)
        payment = await till.pay(order, key="one")
        await hide(till, payment)
        till.stripe.advance(25 * 3600)
        assert await status_of(till, payment) == Payment.UNKNOWN
        await walk(till)
        await till.until_order(order, Order.PAID)
        assert len(till.intents()) == 1

    async def test_nor_by_the_customer_who_tries_again(self, till: Till) -> None:
        order = till.sell()
        till.stripe.fault("lose_answer", match=CREATE)
        payment = await till.pay(order, key="one")
        await hide(till, payment)
        till.stripe.advance(25 * 3600)
        again = await till.pay(order, key="one")
        assert (again.id, again.status) == (payment.id, Payment.SUCCEEDED)
        assert len(till.intents()) == 1

    async def test_what_never_arrived_is_given_up_and_not_sent_again(self, till: Till) -> None:
        """Whoever repeats the call cannot know whether Stripe has only forgotten the key."""
        order = till.sell()
        till.stripe.fault("lose_request", match=CREATE)
        payment = await till.pay(order, key="one")
        await hide(till, payment)
        till.stripe.advance(25 * 3600)
        await till.connection.execute(
            "UPDATE payment.payments SET create_time = create_time - interval '25 h',"
            " attempt_time = attempt_time - interval '25 h'"
        )
        again = await till.pay(order, key="one")
        assert (again.id, again.status) == (payment.id, Payment.UNKNOWN)
        await till.until_status(payment, Payment.FAILED)
        assert till.captured() == []
        new = await till.pay(order, key="one")
        assert (new.id != payment.id, new.status) == (True, Payment.SUCCEEDED)
        assert len(till.captured()) == 1

    async def test_nor_is_a_refund_made_again(self, till: Till) -> None:
        payment = await till.pay(till.sell(10_000))
        till.stripe.fault("lose_answer", match={"path": "/v1/refunds", "method": "POST"})
        await till.refund(payment, 4_000)
        await hide(till, payment)
        till.stripe.advance(25 * 3600)
        await till.connection.execute("UPDATE payment.payments SET check_time = now()")
        await till.until_status(payment, Payment.PARTIALLY_REFUNDED)
        assert len(till.repayments()) == 1


class TestDeadProcesses:
    @pytest.mark.parametrize("fault", ["lose_answer", "lose_request"])
    async def test_the_same_key_goes_on_where_another_process_died(
        self, till: Till, fault: str
    ) -> None:
        order = till.sell()
        till.stripe.fault(fault, match=CREATE)
        payment = await till.pay(order, key="one")
        await hide(till, payment)
        # As the process left it: with a lease, which runs out.
        died = "UPDATE payment.payments SET status = 1, attempt_until = now() + $1::interval"
        await till.connection.execute(died, timedelta(seconds=60))
        with refused(StatusCode.ABORTED, "IDEMPOTENCY_KEY_IN_USE"):
            await till.pay(order, key="one")
        await till.connection.execute(died, timedelta(seconds=-1))
        again = await till.pay(order, key="one")
        assert (again.id, again.status) == (payment.id, Payment.SUCCEEDED)
        assert len(till.captured()) == 1

    async def test_what_was_given_back_before_the_second_call_is_known_too(
        self, till: Till
    ) -> None:
        till.stripe.fault("lose_answer", match=CREATE)
        order = till.sell(10_000)
        payment = await till.pay(order, key="one")
        await hide(till, payment)
        [intent] = till.captured()
        client = till.stripe.client()
        client.v1.refunds.create({"payment_intent": intent["id"], "amount": 2_500})
        assert (await till.pay(order, key="one")).id == payment.id
        await till.connection.execute(
            "UPDATE payment.payments SET check_time = now() WHERE check_time IS NOT NULL"
        )
        await till.until_status(payment, Payment.PARTIALLY_REFUNDED)

    async def test_without_a_second_call_the_reconciler_goes_on(self, till: Till) -> None:
        order = till.sell()
        till.stripe.fault("lose_answer", match=CREATE)
        await till.pay(order)
        await till.connection.execute(
            "UPDATE payment.payments SET status = 1, attempt_until = now() + interval '1 s'"
            " WHERE status = 8"
        )
        await till.until_order(order, Order.PAID)


class TestWebhooksDropped:
    async def test_all_settle_without_one(self, till: Till) -> None:
        """P11, within the two minutes that it has."""
        orders = [till.sell() for _ in range(20)]
        payments = [await till.pay(each, "threeDSecureRequired") for each in orders]
        for payment in payments[:10]:
            till.three_d_secure(payment)
        for payment in payments[10:]:
            till.three_d_secure(payment, "refuse")
        for payment in payments[:10]:
            await till.until_status(payment, Payment.SUCCEEDED)
        for payment in payments[10:]:
            await till.until_status(payment, Payment.FAILED)

    async def test_a_customer_who_never_decides_frees_the_order(self, till: Till) -> None:
        order = till.sell()
        payment = await till.pay(order, "threeDSecureRequired")
        await till.connection.execute(
            "UPDATE payment.payments SET check_time = now(),"
            " create_time = create_time - interval '11 min'"
        )
        await till.until_status(payment, Payment.CANCELLED)
        assert (await till.pay(order)).status == Payment.SUCCEEDED
        await till.until_order(order, Order.PAID)
        assert order.failed == [payment.id]


class TestReviews:
    @pytest.mark.parametrize(
        "answer",
        [
            {"amount": 1},
            {"amount_received": 1},
            {"currency": "usd"},
            {"metadata": {"order_id": str(uuid7())}},
        ],
        ids=["amount", "captured", "currency", "order"],
    )
    async def test_an_answer_that_does_not_fit_is_for_people(
        self, till: Till, answer: dict[str, Any]
    ) -> None:
        order = till.sell()
        till.stripe.fault("wrong_answer", match=CREATE, set=answer)
        payment = await till.pay(order)
        assert payment.status == Payment.REVIEW
        for event in till.events():
            await till.tell(event)
        await walk(till)
        await asyncio.sleep(0.5)
        assert await status_of(till, payment) == Payment.REVIEW
        assert order.status == Order.AWAITING_PAYMENT
        with refused(StatusCode.FAILED_PRECONDITION, "PAYMENT_IN_PROGRESS"):
            await till.pay(order)
        # And when its order expires, the customer has their money.
        await till.close(order)
        await till.until_quiet()
        captured = sum(each["amount_received"] for each in till.captured())
        assert till.given_back() == (1 if "amount_received" in answer else captured)


class TestWalks:
    async def test_a_charge_without_a_payment_pays_its_order(self, till: Till) -> None:
        order = till.sell()
        payment = await till.pay(order)
        await till.until_order(order, Order.PAID)
        await till.connection.execute("DELETE FROM payment.payments")
        order.status, order.payment_id = Order.AWAITING_PAYMENT, ""
        order.outcomes.clear()
        await walk(till)
        await till.until_order(order, Order.PAID)
        assert order.payment_id == payment.id
        assert (await till.get(payment)).status == Payment.SUCCEEDED

    async def test_what_was_given_back_before_it_heard_of_the_charge_is_known_too(
        self, till: Till
    ) -> None:
        order = till.sell(10_000)
        payment = await till.pay(order, "threeDSecureRequired")
        await hide(till, payment)
        till.three_d_secure(payment)
        [intent] = till.captured()
        client = till.stripe.client()
        client.v1.refunds.create({"payment_intent": intent["id"], "amount": 2_500})
        await walk(till)
        known = await till.until_status(payment, Payment.PARTIALLY_REFUNDED)
        assert [each.amount.units for each in known.refunds] == [25]
        await till.until_order(order, Order.PARTIALLY_REFUNDED)

    async def test_one_that_cannot_be_placed_goes_back(self, till: Till) -> None:
        order = till.sell()
        payment = await till.pay(order)
        await till.until_order(order, Order.PAID)
        await till.connection.execute("DELETE FROM payment.payments")
        order.status = Order.CANCELLED
        order.outcomes.clear()
        await walk(till)

        async def is_back() -> bool:
            return till.given_back() == 10_000

        await till.until(is_back, "the money is back")
        await till.until_status(payment, Payment.REFUNDED)

    async def test_a_second_charge_of_one_payment_goes_back(self, till: Till) -> None:
        order = till.sell()
        payment = await till.pay(order)
        [intent] = till.intents()
        till.stripe.client().v1.payment_intents.create(
            {
                "amount": 10_000,
                "currency": "eur",
                "confirm": True,
                "payment_method": "pm_card_visa",
                "return_url": "https://shop.example/",
                "metadata": intent["metadata"],
            }
        )
        await walk(till)

        async def is_back() -> bool:
            return till.given_back() == 10_000

        await till.until(is_back, "one of the two is back")
        await till.until_quiet()
        assert await status_of(till, payment) == Payment.SUCCEEDED
        await till.until_order(order, Order.PAID)
        refunded = {each["payment_intent"] for each in till.repayments()}
        assert refunded == {each["id"] for each in till.intents()} - {intent["id"]}

    async def test_what_is_not_ours_is_left_alone(self, till: Till) -> None:
        for noted in ({}, {"shop": "another", "payment_id": str(uuid7())}):
            till.stripe.client().v1.payment_intents.create(
                {
                    "amount": 500,
                    "currency": "eur",
                    "confirm": True,
                    "payment_method": "pm_card_visa",
                    "return_url": "https://shop.example/",
                    "metadata": {**noted, "order_id": str(uuid7()), "user_id": str(uuid7())},
                }
            )
        await walk(till)
        await asyncio.sleep(1.5)
        assert till.repayments() == []
        assert await till.connection.fetchval("SELECT count(*) FROM payment.payments") == 0

    async def test_it_goes_through_all_pages(self, till: Till, parts: Parts) -> None:
        client = till.stripe.client()
        for _ in range(205):
            client.v1.payment_intents.create({"amount": 500, "currency": "eur"})
        await till.connection.execute("DELETE FROM payment.walks")
        report = Report()
        await parts.walks.walk(report, at_once=True)
        assert report.walked == 205


class TestLostWebhooks:
    def test_what_is_asked_for_are_names_of_stripes_events(self) -> None:
        known = typing.get_args(typing.get_type_hints(stripe.Event)["type"])
        assert set(EVENT_TYPES) <= set(known)
        assert len(EVENT_TYPES) <= 20

    async def test_a_refund_made_at_stripes_pages_is_heard_of(self, till: Till) -> None:
        order = till.sell(10_000)
        payment = await till.pay(order)
        await till.until_order(order, Order.PAID)
        client = till.stripe.client()
        [intent] = till.captured()
        client.v1.refunds.create({"payment_intent": intent["id"], "amount": 2_500})
        await walk(till)
        await till.until_status(payment, Payment.PARTIALLY_REFUNDED)
        await till.until_order(order, Order.PARTIALLY_REFUNDED)

    async def test_a_dispute_is_heard_of_and_once(self, till: Till, parts: Parts) -> None:
        await keep_from_walking(till)
        payment = await till.pay(till.sell(), "createDispute")
        report = Report()
        await parts.walks.walk(report, at_once=True)
        [dispute] = (await till.get(payment)).disputes
        assert (dispute.status, report.heard) == ("needs_response", 2)
        for event in till.events():
            await till.tell(event)
        await parts.walks.walk(report, at_once=True)
        assert report.heard == 2
        assert len((await till.get(payment)).disputes) == 1


class TestRunOnce:
    async def test_it_reports_what_it_settled_and_what_is_open(
        self, till: Till, settings: Settings
    ) -> None:
        till.stripe.fault("lose_answer", match=CREATE, times=3)
        lost = [await till.pay(till.sell()) for _ in range(3)]
        waiting = await till.pay(till.sell(), "threeDSecureRequired")
        for payment in (*lost, waiting):
            await hide(till, payment)
        # On a busy machine the service may have been quicker, before this or after.
        left = await till.connection.fetchval(
            "SELECT count(*) FROM payment.payments WHERE status = 8"
        )
        report = await reconcile(settings)
        assert report.settled <= left
        assert report.settled < report.looked_at <= report.walked == 4
        assert report.is_clear
        assert report.open == {"REQUIRES_ACTION": 1}
        for payment in lost:
            assert await status_of(till, payment) == Payment.SUCCEEDED

    async def test_two_at_once_look_at_different_payments(self, till: Till, parts: Parts) -> None:
        payments = await asyncio.gather(
            *(till.pay(till.sell(), "threeDSecureRequired") for _ in range(12))
        )
        for payment in payments:
            await hide(till, payment)
        till.stripe.control("POST", "/faults", {"kind": "delay_answer", "seconds": 0.0})
        before = len(till.stripe.seen())
        await till.connection.execute("UPDATE payment.payments SET check_time = now()")
        report = Report()
        await asyncio.gather(*(parts.reconciler.settle_due(report) for _ in range(3)))
        await asyncio.sleep(0.5)
        asked = [
            each["path"]
            for each in till.stripe.seen()[before:]
            if each["method"] == "GET" and each["path"].startswith("/v1/payment_intents/pi_")
        ]
        assert len(asked) == len(set(asked)) == 12

    async def test_what_cannot_be_asked_stays_open(self, till: Till, settings: Settings) -> None:
        payment = await till.pay(till.sell(), "threeDSecureRequired")
        await hide(till, payment)
        path = {"path": "/v1/payment_intents*", "method": "GET"}
        till.stripe.fault("server_error", match=path, times=None)
        report = await reconcile(settings)
        assert (report.unanswered, report.settled) == (1, 0)
        assert report.open == {"REQUIRES_ACTION": 1}
        assert report.cut_short
        assert not report.is_clear
