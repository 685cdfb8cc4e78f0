"""ProcessPayment, GetPayment, ListPayments, one call after the other."""

from __future__ import annotations

from grpc import StatusCode

from shop.order.v1.order_pb2 import Order
from shop.payment.v1.payment_pb2 import Payment
from tests.payment.till import Till
from tests.running import refused


class TestProcessPayment:
    async def test_a_good_card_pays_the_order(self, till: Till) -> None:
        order = till.sell(10_000, "EUR")
        payment = await till.pay(order)
        assert payment.status == Payment.SUCCEEDED
        assert (payment.amount.units, payment.amount.currency_code) == (100, "EUR")
        assert (payment.card_brand, payment.card_last4) == ("visa", "4242")
        assert payment.order_id == str(order.id)
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
