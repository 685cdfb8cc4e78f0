"""RefundPayment: in parts, at the same time, through faults: never more than was captured."""

from __future__ import annotations

import asyncio

import pytest
from google.type.money_pb2 import Money
from grpc import StatusCode
from grpc.aio import AioRpcError

from shop.order.v1.order_pb2 import Order
from shop.payment.v1.payment_pb2 import Payment, Refund, RefundPaymentRequest
from tests.metered import sample
from tests.payment.till import Till
from tests.running import refusal_of, refused

MOVEMENTS = [{"movement": name, "currency": "EUR"} for name in ("captured", "refunded")]


class TestRefundPayment:
    async def test_all_of_it_goes_back(self, till: Till) -> None:
        order = till.sell(10_000)
        payment = await till.pay(order)
        await till.until_order(order, Order.PAID)
        refunded = await till.refund(payment, note="Too small.")
        assert refunded.status == Payment.REFUNDED
        assert refunded.refunded_amount.units == 100
        [refund] = refunded.refunds
        assert (refund.status, refund.reason) == (Refund.SUCCEEDED, Refund.REQUESTED_BY_CUSTOMER)
        assert (refund.amount.units, refund.note) == (100, "Too small.")
        await till.until_order(order, Order.REFUNDED)
        assert refunded.etag != payment.etag

    async def test_a_part_and_then_the_rest(self, till: Till) -> None:
        order = till.sell(10_000)
        before = [sample("shop_payments_money_total", **each) for each in MOVEMENTS]
        payment = await till.pay(order)
        await till.until_order(order, Order.PAID)
        part = await till.refund(payment, 2_500, reason=Refund.DUPLICATE)
        assert part.status == Payment.PARTIALLY_REFUNDED
        assert part.refunds[0].reason == Refund.DUPLICATE
        await till.until_order(order, Order.PARTIALLY_REFUNDED)
        whole = await till.refund(payment)
        assert [each.amount.units for each in whole.refunds] == [25, 75]
        await till.until_order(order, Order.REFUNDED)
        assert sum(each["amount"] for each in till.repayments()) == 10_000
        after = [sample("shop_payments_money_total", **each) for each in MOVEMENTS]
        assert [new - old for new, old in zip(after, before, strict=True)] == [10_000, 10_000]

    async def test_more_than_is_left_is_refused(self, till: Till) -> None:
        payment = await till.pay(till.sell(10_000))
        await till.refund(payment, 2_500)
        with refused(StatusCode.FAILED_PRECONDITION, "REFUND_TOO_LARGE") as said:
            await till.refund(payment, 7_501)
        assert said[0].metadata == {"currency_code": "EUR", "units": "75", "nanos": "0"}
        assert len(till.repayments()) == 1

    async def test_what_was_given_back_is_not_refundable(self, till: Till) -> None:
        payment = await till.pay(till.sell())
        await till.refund(payment)
        with refused(StatusCode.FAILED_PRECONDITION, "PAYMENT_NOT_REFUNDABLE") as said:
            await till.refund(payment)
        assert said[0].metadata == {"status": "REFUNDED"}

    async def test_what_was_not_captured_is_not_refundable(self, till: Till) -> None:
        payment = await till.pay(till.sell(), "threeDSecureRequired")
        with refused(StatusCode.FAILED_PRECONDITION, "PAYMENT_NOT_REFUNDABLE"):
            await till.refund(payment)

    async def test_another_currency_is_refused(self, till: Till) -> None:
        payment = await till.pay(till.sell())
        request = RefundPaymentRequest(id=payment.id, amount=Money(currency_code="USD", units=1))
        with refused(StatusCode.FAILED_PRECONDITION, "CURRENCY_MISMATCH"):
            await till.payments.RefundPayment(request, metadata=till.staff())

    async def test_a_stale_etag_aborts_and_gives_nothing_back(self, till: Till) -> None:
        payment = await till.pay(till.sell())
        await till.refund(payment, 100, etag=payment.etag)
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
            await till.refund(payment, 100, etag=payment.etag)
        assert len(till.repayments()) == 1

    async def test_customers_do_not_refund(self, till: Till) -> None:
        payment = await till.pay(till.sell())
        with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"):
            await till.payments.RefundPayment(
                RefundPaymentRequest(id=payment.id), metadata=till.customer()
            )

    async def test_a_card_number_in_the_note_is_refused(self, till: Till) -> None:
        payment = await till.pay(till.sell())
        with refused(StatusCode.INVALID_ARGUMENT, "CARD_NUMBER_REFUSED"):
            await till.refund(payment, note="to 5555 5555 5555 4444 please")
        assert till.repayments() == []

    async def test_a_payment_that_is_not_there_is_not_found(self, till: Till) -> None:
        payment = await till.pay(till.sell())
        payment.id = payment.order_id
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await till.refund(payment)


class TestKeys:
    async def test_the_same_call_again_gives_back_once(self, till: Till) -> None:
        payment = await till.pay(till.sell())
        first = await till.refund(payment, 1_000, key="one")
        again = await till.refund(payment, 1_000, key="one")
        assert [each.id for each in again.refunds] == [each.id for each in first.refunds]
        assert len(till.repayments()) == 1

    async def test_another_body_is_refused(self, till: Till) -> None:
        payment = await till.pay(till.sell())
        await till.refund(payment, 1_000, key="one")
        with refused(StatusCode.FAILED_PRECONDITION, "IDEMPOTENCY_KEY_REUSED"):
            await till.refund(payment, 2_000, key="one")
        assert len(till.repayments()) == 1

    async def test_ten_at_once_with_one_key_give_back_once(self, till: Till) -> None:
        payment = await till.pay(till.sell())
        answers = await asyncio.gather(
            *(till.refund(payment, 1_000, key="one") for _ in range(10)), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, AioRpcError):
                assert refusal_of(answer).reason == "IDEMPOTENCY_KEY_IN_USE"
        assert len(till.repayments()) == 1


class TestTogether:
    async def test_of_fifty_refunds_of_thirty_per_cent_three_are_made(self, till: Till) -> None:
        payment = await till.pay(till.sell(10_000))
        answers = await asyncio.gather(
            *(till.refund(payment, 3_000) for _ in range(50)), return_exceptions=True
        )
        made = [each for each in answers if isinstance(each, Payment)]
        reasons = {refusal_of(each).reason for each in answers if isinstance(each, AioRpcError)}
        assert len(made) == 3
        assert reasons == {"REFUND_TOO_LARGE"}
        assert sorted(each["amount"] for each in till.repayments()) == [3_000] * 3
        now = await till.get(payment)
        assert (now.status, now.refunded_amount.units) == (Payment.PARTIALLY_REFUNDED, 90)


class TestFaults:
    async def test_a_lost_answer_is_settled_without_giving_back_twice(self, till: Till) -> None:
        payment = await till.pay(till.sell(10_000))
        till.stripe.fault("lose_answer", match={"path": "/v1/refunds", "method": "POST"})
        pending = await till.refund(payment, 4_000)
        assert pending.refunds[0].status == Refund.PROCESSING
        assert pending.refunded_amount.units == 0
        with refused(StatusCode.FAILED_PRECONDITION, "REFUND_TOO_LARGE"):
            await till.refund(payment, 6_001)
        settled = await till.until_status(payment, Payment.PARTIALLY_REFUNDED)
        assert settled.refunds[0].status == Refund.SUCCEEDED
        assert len(till.repayments()) == 1

    async def test_a_lost_request_is_made_again(self, till: Till) -> None:
        payment = await till.pay(till.sell(10_000))
        till.stripe.fault("lose_request", match={"path": "/v1/refunds", "method": "POST"})
        assert (await till.refund(payment)).refunds[0].status == Refund.PROCESSING
        await till.until_status(payment, Payment.REFUNDED)
        assert [each["amount"] for each in till.repayments()] == [10_000]

    async def test_when_stripe_refuses_to_begin_nothing_has_happened(self, till: Till) -> None:
        payment = await till.pay(till.sell(10_000))
        till.stripe.fault("rate_limit", match={"path": "/v1/refunds", "method": "POST"})
        with refused(StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE"):
            await till.refund(payment, key="one")
        assert not (await till.get(payment)).refunds
        assert (await till.refund(payment, key="one")).status == Payment.REFUNDED

    async def test_a_refund_on_its_way_is_told_when_it_arrives(self, till: Till) -> None:
        order = till.sell(10_000)
        payment = await till.pay(order, "pendingRefund")
        await till.until_order(order, Order.PAID)
        pending = await till.refund(payment)
        assert pending.refunds[0].status == Refund.PROCESSING
        assert pending.status == Payment.SUCCEEDED
        await till.until_status(payment, Payment.REFUNDED)
        await till.until_order(order, Order.REFUNDED)

    async def test_a_refund_that_comes_back_can_be_made_again(self, till: Till) -> None:
        payment = await till.pay(till.sell(10_000), "refundFail")
        assert (await till.refund(payment)).status == Payment.REFUNDED

        async def came_back() -> bool:
            for event in till.events():
                if event["type"] == "refund.failed":
                    await till.tell(event)
            return (await till.get(payment)).status == Payment.SUCCEEDED

        await till.until(came_back, "the refund came back")
        assert (await till.get(payment)).refunds[0].status == Refund.FAILED
        assert (await till.refund(payment)).refunds[1].status == Refund.SUCCEEDED

    async def test_a_disputed_payment_is_not_given_back_by_stripe(self, till: Till) -> None:
        payment = await till.pay(till.sell(10_000), "createDispute")
        answer = await till.refund(payment)
        assert answer.refunds[0].status == Refund.FAILED
        assert (answer.status, answer.refunded_amount.units) == (Payment.SUCCEEDED, 0)

    @pytest.mark.parametrize("amount", [4_000, 10_000])
    async def test_a_refund_made_at_stripe_itself_is_noted(self, till: Till, amount: int) -> None:
        order = till.sell(10_000)
        payment = await till.pay(order)
        await till.until_order(order, Order.PAID)
        [intent] = till.captured()
        till.stripe.client().v1.refunds.create({"payment_intent": intent["id"], "amount": amount})
        [event] = [each for each in till.events() if each["type"] == "charge.refunded"]
        await till.tell(event)
        status = Payment.REFUNDED if amount == 10_000 else Payment.PARTIALLY_REFUNDED
        noted = await till.until_status(payment, status)
        assert noted.refunded_amount.units == amount // 100
        with refused(StatusCode.FAILED_PRECONDITION, "REFUND_TOO_LARGE"):
            await till.refund(payment, 10_001 - amount)
