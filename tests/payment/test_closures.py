"""CloseOrder: whatever was, or will be, taken for an order that is over goes back."""

from __future__ import annotations

import asyncio
import random

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from services.kit.ids import uuid7
from shop.order.v1.order_pb2 import Order
from shop.payment.v1.closure_pb2 import CloseOrderRequest
from shop.payment.v1.payment_pb2 import Payment, Refund
from tests.payment.neighbours import Sold
from tests.payment.till import Till
from tests.running import refused
from tests.sizes import size


async def cancel(till: Till, order: Sold) -> None:
    """As the order service does it."""
    order.status = Order.CANCELLED
    await till.close(order)


class TestCloseOrder:
    async def test_captured_money_goes_back_in_full(self, till: Till) -> None:
        order = till.sell(10_000)
        payment = await till.pay(order)
        await till.until_order(order, Order.PAID)
        await cancel(till, order)
        refunded = await till.until_status(payment, Payment.REFUNDED)
        [refund] = refunded.refunds
        assert (refund.reason, refund.note) == (Refund.ORDER_CANCELLED, "It was cancelled.")
        await till.until_quiet()
        assert order.refunded == {payment.id: 10_000}

    async def test_of_what_was_given_back_in_part_the_rest_goes_back(self, till: Till) -> None:
        order = till.sell(10_000)
        payment = await till.pay(order)
        await till.refund(payment, 2_500)
        await cancel(till, order)
        refunded = await till.until_status(payment, Payment.REFUNDED)
        assert [each.amount.units for each in refunded.refunds] == [25, 75]

    async def test_repeating_it_changes_nothing(self, till: Till) -> None:
        order = till.sell()
        payment = await till.pay(order)
        await asyncio.gather(*(cancel(till, order) for _ in range(5)))
        await till.until_status(payment, Payment.REFUNDED)
        await cancel(till, order)
        await till.until_quiet()
        assert len(till.repayments()) == 1

    async def test_a_payment_under_way_is_cancelled(self, till: Till) -> None:
        order = till.sell()
        payment = await till.pay(order, "threeDSecureRequired")
        await cancel(till, order)
        await till.until_status(payment, Payment.CANCELLED)
        assert [intent["status"] for intent in till.intents()] == ["canceled"]

    async def test_no_new_payment_begins(self, till: Till) -> None:
        order = till.sell()
        await till.close(order)
        with refused(StatusCode.FAILED_PRECONDITION, "ORDER_NOT_PAYABLE") as said:
            await till.pay(order)
        assert said[0].metadata == {"status": "CANCELLED"}
        assert till.intents() == []

    async def test_what_is_captured_while_it_closes_goes_back(self, till: Till) -> None:
        order = till.sell()
        match = {"path": "/v1/payment_intents", "method": "POST"}
        till.stripe.fault("delay_request", match=match, seconds=1)
        paying = asyncio.create_task(till.pay(order))
        await till.until_asked()
        await cancel(till, order)
        payment = await paying
        await till.until_status(payment, Payment.REFUNDED)
        assert len(till.repayments()) == 1

    async def test_a_payment_of_unknown_outcome_is_found_and_given_back(self, till: Till) -> None:
        order = till.sell()
        till.stripe.fault("lose_answer", match={"path": "/v1/payment_intents", "method": "POST"})
        payment = await till.pay(order)
        await cancel(till, order)
        await till.until_status(payment, Payment.REFUNDED)

    async def test_what_stripe_refuses_to_give_back_is_tried_again(self, till: Till) -> None:
        order = till.sell()
        payment = await till.pay(order, "refundFail")
        await till.until_order(order, Order.PAID)
        await cancel(till, order)
        await till.until_status(payment, Payment.REFUNDED)

        async def tried_again() -> bool:
            for event in till.events():
                if event["type"] == "refund.failed":
                    await till.tell(event)
            return len(till.repayments()) > 1

        await till.until(tried_again, "a second refund")

    async def test_an_order_that_was_never_paid_closes_too(self, till: Till) -> None:
        await till.close(till.sell())

    async def test_only_services_close_orders(self, till: Till) -> None:
        request = CloseOrderRequest(order_id=str(uuid7()))
        with refused(StatusCode.UNAUTHENTICATED, "SERVICE_CREDENTIAL_INVALID"):
            await till.closures.CloseOrder(request, metadata=till.staff())


class TestOrdersThatCannotBePlaced:
    @pytest.mark.parametrize("card", ["visa", "threeDSecureRequired"])
    async def test_what_was_paid_too_late_goes_back_by_itself(self, till: Till, card: str) -> None:
        order = till.sell()
        till.stripe.fault("delay_answer", match={"path": "/v1/payment_intents"}, seconds=1)
        paying = asyncio.create_task(till.pay(order, card))
        await till.until_asked()
        order.status = Order.CANCELLED  # and nobody has told us yet
        payment = await paying
        if card != "visa":
            till.three_d_secure(payment)
        refunded = await till.until_status(payment, Payment.REFUNDED)
        assert refunded.refunds[0].reason == Refund.ORDER_CANCELLED
        await till.until_quiet()
        assert order.refunded == {payment.id: 10_000}

    async def test_an_order_with_another_total_is_for_people_to_decide(self, till: Till) -> None:
        order = till.sell(10_000)
        till.stripe.fault("delay_answer", match={"path": "/v1/payment_intents"}, seconds=1)
        paying = asyncio.create_task(till.pay(order))
        await till.until_asked()
        order.total = 12_000
        payment = await paying
        await till.until_status(payment, Payment.REVIEW)
        assert (await till.refund(payment)).status == Payment.REFUNDED


class TestRaces:
    async def test_cancelling_against_paying_never_leaves_both(self, till: Till) -> None:
        """P14: 500 races at random moments."""
        chance = random.Random(7)
        waiting = asyncio.Semaphore(8)

        async def race() -> Sold:
            order = till.sell(1_000)

            async def pay() -> None:
                await asyncio.sleep(chance.uniform(0, 0.05))
                try:
                    await till.pay(order)
                except AioRpcError as error:
                    assert error.code() == StatusCode.FAILED_PRECONDITION

            async def stop() -> None:
                await asyncio.sleep(chance.uniform(0, 0.1))
                await cancel(till, order)

            async with waiting:
                await asyncio.gather(pay(), stop())
            return order

        orders = await asyncio.gather(*(race() for _ in range(size(500, 40))))
        await till.until_quiet()
        assert {order.status for order in orders} == {Order.CANCELLED}
        captured = sum(each["amount_received"] for each in till.captured())
        assert captured == sum(each["amount"] for each in till.repayments())
        kept = "SELECT count(*) FROM payment.payments WHERE captured <> refunded"
        assert await till.connection.fetchval(kept) == 0
