"""3-D Secure: what counts is Stripe's word, whoever says what."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

from shop.order.v1.order_pb2 import Order
from shop.payment.v1.payment_pb2 import Payment
from tests.payment.till import Person, Till
from tests.running import refused


class TestConfirmPayment:
    async def test_an_approved_payment_pays_the_order(self, till: Till) -> None:
        order = till.sell()
        payment = await till.pay(order, "threeDSecureRequired")
        assert payment.status == Payment.REQUIRES_ACTION
        assert payment.redirect_url.startswith("http")
        till.three_d_secure(payment)
        confirmed = await till.confirm(payment)
        assert confirmed.status == Payment.SUCCEEDED
        assert (confirmed.client_secret, confirmed.redirect_url) == ("", "")
        await till.until_order(order, Order.PAID)

    async def test_a_client_who_says_so_has_not_paid(self, till: Till) -> None:
        order = till.sell()
        payment = await till.pay(order, "threeDSecureRequired")
        assert (await till.confirm(payment)).status == Payment.REQUIRES_ACTION
        await asyncio.sleep(0.2)
        assert order.status == Order.AWAITING_PAYMENT

    async def test_confirming_twice_is_fine(self, till: Till) -> None:
        payment = await till.pay(till.sell(), "threeDSecureRequired")
        till.three_d_secure(payment)
        one, two = await asyncio.gather(till.confirm(payment), till.confirm(payment))
        assert one.status == two.status == Payment.SUCCEEDED
        assert (await till.confirm(payment)).status == Payment.SUCCEEDED

    async def test_a_refused_one_is_declined_and_the_order_payable(self, till: Till) -> None:
        order = till.sell()
        payment = await till.pay(order, "threeDSecureRequired")
        till.three_d_secure(payment, "refuse")
        for _ in range(2):
            with refused(StatusCode.FAILED_PRECONDITION, "CARD_DECLINED") as said:
                await till.confirm(payment)
            assert said[0].metadata["payment_id"] == payment.id
        assert (await till.pay(order)).status == Payment.SUCCEEDED
        await till.until_order(order, Order.PAID)
        assert len(till.captured()) == 1

    async def test_an_approved_card_without_funds_is_declined(self, till: Till) -> None:
        payment = await till.pay(
            till.sell(), "authenticationRequiredChargeDeclinedInsufficientFunds"
        )
        till.three_d_secure(payment)
        with refused(StatusCode.FAILED_PRECONDITION, "CARD_DECLINED") as said:
            await till.confirm(payment)
        assert said[0].metadata["decline_code"] == "insufficient_funds"

    async def test_a_customer_who_never_comes_back_has_paid_all_the_same(self, till: Till) -> None:
        order = till.sell()
        payment = await till.pay(order, "threeDSecureRequired")
        till.three_d_secure(payment)
        await till.until_order(order, Order.PAID)

    async def test_somebody_elses_payment_is_not_found(self, till: Till) -> None:
        payment = await till.pay(till.sell(), "threeDSecureRequired")
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await till.confirm(payment, Person())
        assert (await till.confirm(payment, till.staff)).client_secret == ""

    async def test_an_ended_session_confirms_nothing(self, till: Till) -> None:
        payment = await till.pay(till.sell(), "threeDSecureRequired")
        till.users.ended.add(str(till.customer.id))
        with refused(StatusCode.UNAUTHENTICATED, "SESSION_ENDED"):
            await till.confirm(payment)

    async def test_a_cancelled_payment_cannot_be_confirmed(self, till: Till) -> None:
        order = till.sell()
        payment = await till.pay(order, "threeDSecureRequired")
        await till.close(order)
        await till.until_status(payment, Payment.CANCELLED)
        with refused(StatusCode.FAILED_PRECONDITION, "PAYMENT_NOT_CONFIRMABLE") as said:
            await till.confirm(payment)
        assert said[0].metadata == {"status": "CANCELLED"}

    async def test_while_stripe_is_away_it_says_so(self, till: Till) -> None:
        payment = await till.pay(till.sell(), "threeDSecureRequired")
        till.three_d_secure(payment)
        path = "/v1/payment_intents/*"
        till.stripe.fault("server_error", match={"path": path}, times=3)
        with refused(StatusCode.UNAVAILABLE, "GATEWAY_UNAVAILABLE") as said:
            await till.confirm(payment)
        assert said[0].retry_seconds
        await till.until_status(payment, Payment.SUCCEEDED)

    async def test_a_payment_that_settles_later_pays_when_it_does(self, till: Till) -> None:
        order = till.sell()
        match = {"path": "/v1/payment_intents"}
        till.stripe.fault("settle_later", match=match, seconds=600, outcome="succeeded")
        assert (await till.pay(order)).status == Payment.PROCESSING
        till.stripe.advance(600)
        await till.until_order(order, Order.PAID)

    @pytest.mark.parametrize("confirms", [False, True])
    async def test_a_payment_that_fails_later_leaves_the_order_payable(
        self, till: Till, confirms: bool
    ) -> None:
        order = till.sell()
        match = {"path": "/v1/payment_intents"}
        till.stripe.fault("settle_later", match=match, seconds=600, outcome="failed")
        payment = await till.pay(order)
        if confirms:
            assert (await till.confirm(payment)).status == Payment.PROCESSING
        till.stripe.advance(600)
        await till.until_status(payment, Payment.FAILED)
        assert (await till.pay(order)).status == Payment.SUCCEEDED
