"""ProcessPayment, GetPayment, ListPayments, one call after the other."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from services.kit.ids import uuid7
from shop.order.v1.order_pb2 import Order
from shop.payment.v1.payment_pb2 import ListPaymentsRequest, Payment
from shop.users.v1.users_pb2 import User
from tests.callers import NOBODY
from tests.payment.till import Person, Till
from tests.running import refusal_of, refused


class TestProcessPayment:
    async def test_a_good_card_pays_the_order(self, till: Till) -> None:
        order = till.sell(10_000, "EUR")
        payment = await till.pay(order)
        assert payment.status == Payment.SUCCEEDED
        assert (payment.amount.units, payment.amount.currency_code) == (100, "EUR")
        assert (payment.card_brand, payment.card_last4) == ("visa", "4242")
        assert (payment.order_id, payment.user_id) == (str(order.id), str(till.customer.id))
        assert not payment.client_secret
        await till.until_order(order, Order.PAID)
        assert order.payment_id == payment.id
        [intent] = till.captured()
        assert (intent["amount_received"], intent["currency"]) == (10_000, "eur")

    async def test_a_declined_card_leaves_the_order_payable(self, till: Till) -> None:
        order = till.sell()
        with refused(StatusCode.FAILED_PRECONDITION, "CARD_DECLINED") as said:
            await till.pay(order, "chargeDeclinedInsufficientFunds")
        assert said[0].metadata["decline_code"] == "insufficient_funds"
        failed = await till.get(said[0].metadata["payment_id"])
        assert failed.status == Payment.FAILED
        assert failed.failure.code == "insufficient_funds"
        payment = await till.pay(order)
        assert payment.status == Payment.SUCCEEDED
        await till.until_order(order, Order.PAID)
        assert order.failed == [failed.id]
        assert len(till.captured()) == 1

    async def test_what_was_declined_cannot_be_paid_later_on(self, till: Till) -> None:
        with refused(StatusCode.FAILED_PRECONDITION, "CARD_DECLINED"):
            await till.pay(till.sell(), "chargeDeclined")
        await till.until_quiet()
        assert [intent["status"] for intent in till.intents()] == ["canceled"]

    async def test_an_unknown_payment_method_is_invalid(self, till: Till) -> None:
        order = till.sell()
        with refused(StatusCode.INVALID_ARGUMENT, "PAYMENT_METHOD_INVALID") as said:
            await till.pay(order, payment_method="pm_nobodyKnowsThis")
        failed = await till.get(said[0].metadata["payment_id"])
        assert failed.status == Payment.FAILED
        assert (await till.pay(order)).status == Payment.SUCCEEDED

    @pytest.mark.parametrize(
        ("total", "currency", "asked"),
        [
            (1_999, "USD", 1_999),
            (500, "JPY", 500),
            (5_120, "KWD", 5_120),
            (500, "ISK", 50_000),
            (5, "UGX", 500),
            (1_200, "MGA", 12),
        ],
    )
    async def test_stripe_is_asked_in_its_own_minor_units(
        self, till: Till, total: int, currency: str, asked: int
    ) -> None:
        order = till.sell(total, currency)
        payment = await till.pay(order)
        assert payment.status == Payment.SUCCEEDED
        [intent] = till.captured()
        assert (intent["amount_received"], intent["currency"]) == (asked, currency.lower())
        await till.until_order(order, Order.PAID)

    async def test_what_stripe_cannot_charge_is_refused_and_charges_nothing(
        self, till: Till
    ) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "PAYMENT_METHOD_INVALID"):
            await till.pay(till.sell(5_124, "KWD"))
        assert till.intents() == []

    async def test_a_paid_order_is_not_paid_again(self, till: Till) -> None:
        order = till.sell()
        await till.pay(order)
        with refused(StatusCode.FAILED_PRECONDITION, "ORDER_NOT_PAYABLE") as said:
            await till.pay(order)
        assert said[0].metadata == {"status": "PAID"}
        await till.until_order(order, Order.PAID)
        with refused(StatusCode.FAILED_PRECONDITION, "ORDER_NOT_PAYABLE"):
            await till.pay(order)
        assert len(till.intents()) == 1

    @pytest.mark.parametrize("status", [Order.PENDING, Order.CANCELLED, Order.REFUNDED])
    async def test_an_order_that_waits_for_no_payment_is_refused(
        self, till: Till, status: Order.Status.ValueType
    ) -> None:
        order = till.sell()
        order.status = status
        with refused(StatusCode.FAILED_PRECONDITION, "ORDER_NOT_PAYABLE") as said:
            await till.pay(order)
        assert said[0].metadata == {"status": Order.Status.Name(status)}
        assert till.intents() == []

    async def test_another_payment_under_way_is_named(self, till: Till) -> None:
        order = till.sell()
        first = await till.pay(order, "threeDSecureRequired")
        with refused(StatusCode.FAILED_PRECONDITION, "PAYMENT_IN_PROGRESS") as said:
            await till.pay(order)
        assert said[0].metadata == {"payment_id": first.id}

    async def test_nobody_pays_for_somebody_else(self, till: Till) -> None:
        order = till.sell()
        for somebody in (Person(), till.staff):
            with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND") as said:
                await till.pay(order, by=somebody)
            assert said[0].metadata == {"resource": "order", "id": str(order.id)}
        assert till.intents() == []

    async def test_an_order_that_is_not_there_is_not_found(self, till: Till) -> None:
        order = till.sell()
        order.id = uuid7()
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await till.pay(order)

    async def test_an_ended_session_pays_nothing(self, till: Till) -> None:
        order = till.sell()
        till.users.ended.add(str(till.customer.id))
        with refused(StatusCode.UNAUTHENTICATED, "SESSION_ENDED"):
            await till.pay(order)
        assert till.intents() == []

    async def test_a_card_number_is_refused_and_kept_nowhere(self, till: Till) -> None:
        order = till.sell()
        for method, url in (
            ("pm_4242424242424242", ""),
            ("pm_card_visa", "https://shop.example/?card=4000-0566-5566-5556"),
        ):
            with refused(StatusCode.INVALID_ARGUMENT, "CARD_NUMBER_REFUSED") as said:
                await till.pay(order, payment_method=method, return_url=url)
            assert said[0].metadata["field"] in ("payment_method", "return_url")
            assert "4242" not in said[0].message
        assert await till.connection.fetchval("SELECT count(*) FROM payment.payments") == 0

    async def test_while_orders_are_away_nothing_is_charged(self, till: Till) -> None:
        order = till.sell()
        till.orders.is_away = True
        with refused(StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE"):
            await till.pay(order)
        assert till.intents() == []

    async def test_the_order_hears_of_its_payment_when_it_is_back(self, till: Till) -> None:
        order = till.sell()
        payment = await till.pay(order, key="pays")
        till.orders.is_away = True
        await asyncio.sleep(0.1)
        till.orders.is_away = False
        await till.until_order(order, Order.PAID)
        assert order.payment_id == payment.id


class TestKeys:
    async def test_the_same_call_again_answers_the_same_payment(self, till: Till) -> None:
        order = till.sell()
        first = await till.pay(order, key="one")
        again = await till.pay(order, key="one")
        assert (again.id, again.status) == (first.id, Payment.SUCCEEDED)
        assert len(till.intents()) == 1

    async def test_another_body_is_refused_without_effect(self, till: Till) -> None:
        order, other = till.sell(), till.sell()
        await till.pay(order, key="one")
        with refused(StatusCode.FAILED_PRECONDITION, "IDEMPOTENCY_KEY_REUSED"):
            await till.pay(order, "mastercard", key="one")
        with refused(StatusCode.FAILED_PRECONDITION, "IDEMPOTENCY_KEY_REUSED"):
            await till.pay(other, key="one")
        assert len(till.intents()) == 1

    async def test_a_declined_payment_is_answered_the_same_way_again(self, till: Till) -> None:
        order = till.sell()
        told = []
        for _ in range(2):
            with refused(StatusCode.FAILED_PRECONDITION, "CARD_DECLINED") as said:
                await till.pay(order, "chargeDeclined", key="one")
            told.append(said[0].metadata)
        assert told[0] == told[1]
        assert len(till.intents()) == 1

    async def test_keys_of_two_customers_do_not_meet(self, till: Till) -> None:
        other = Person()
        theirs = till.orders.sell(other.id, 500)
        mine = await till.pay(till.sell(), key="one")
        assert (await till.pay(theirs, key="one", by=other)).id != mine.id

    async def test_a_key_in_flight_aborts_the_second_call(self, till: Till) -> None:
        for number in range(5):  # the first may be over when a busy machine comes to the second
            till.stripe.reset()
            order, key = till.sell(), f"key {number}"
            till.stripe.fault("delay_answer", match={"path": "/v1/payment_intents"}, seconds=1.5)
            first = asyncio.create_task(till.pay(order, key=key))
            await till.until_asked()
            try:
                await till.pay(order, key=key)
            except AioRpcError as error:
                refusal = refusal_of(error)
                assert (refusal.code, refusal.reason) == (
                    StatusCode.ABORTED,
                    "IDEMPOTENCY_KEY_IN_USE",
                )
                assert refusal.retry_seconds
                assert (await first).status == Payment.SUCCEEDED
                assert len(till.intents()) == 1
                return
            assert (await first).status == Payment.SUCCEEDED
        pytest.fail("no call met the one before it")


class TestReading:
    async def test_its_owner_and_staff_see_a_payment(self, till: Till) -> None:
        payment = await till.pay(till.sell())
        assert (await till.get(payment)).etag == payment.etag
        assert (await till.get(payment, till.staff)).id == payment.id
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await till.get(payment, Person())

    async def test_what_finishes_a_payment_is_for_its_payer_alone(self, till: Till) -> None:
        payment = await till.pay(till.sell(), "threeDSecureRequired")
        assert payment.client_secret
        assert payment.redirect_url
        mine = await till.get(payment)
        assert mine.client_secret == payment.client_secret
        seen = await till.get(payment, till.staff)
        assert (seen.client_secret, seen.redirect_url) == ("", "")

    async def test_the_payments_of_an_order_come_newest_first_in_pages(self, till: Till) -> None:
        order = till.sell()
        for _ in range(2):
            with refused(StatusCode.FAILED_PRECONDITION, "CARD_DECLINED"):
                await till.pay(order, "chargeDeclined")
        paid = await till.pay(order)
        request = ListPaymentsRequest(order_id=str(order.id), page_size=2)
        first = await till.payments.ListPayments(request, metadata=till.customer())
        assert first.payments[0].id == paid.id
        request.page_token = first.next_page_token
        second = await till.payments.ListPayments(request, metadata=till.customer())
        statuses = [each.status for each in (*first.payments, *second.payments)]
        assert statuses == [Payment.SUCCEEDED, Payment.FAILED, Payment.FAILED]
        assert second.next_page_token == ""

    async def test_an_unpaid_order_has_no_payments(self, till: Till) -> None:
        request = ListPaymentsRequest(order_id=str(till.sell().id))
        answer = await till.payments.ListPayments(request, metadata=till.customer())
        assert not answer.payments

    @pytest.mark.parametrize("paid", [False, True])
    async def test_somebody_elses_order_is_not_found(self, till: Till, paid: bool) -> None:
        order = till.sell()
        if paid:
            await till.pay(order)
        request = ListPaymentsRequest(order_id=str(order.id))
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND") as said:
            await till.payments.ListPayments(request, metadata=Person()())
        assert said[0].metadata["resource"] == "order"
        await till.payments.ListPayments(request, metadata=till.staff())

    async def test_a_token_of_another_list_is_refused(self, till: Till) -> None:
        request = ListPaymentsRequest(order_id=str(till.sell().id), page_token="abc")
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"):
            await till.payments.ListPayments(request, metadata=till.customer())

    async def test_strangers_need_a_token(self, till: Till) -> None:
        request = ListPaymentsRequest(order_id=str(till.sell().id))
        with refused(StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"):
            await till.payments.ListPayments(request, metadata=NOBODY)


async def test_somebody_whose_role_was_taken_does_not_refund(till: Till) -> None:
    payment = await till.pay(till.sell())
    till.users.roles[str(till.staff.id)] = User.CUSTOMER
    with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"):
        await till.refund(payment)
    assert till.repayments() == []
