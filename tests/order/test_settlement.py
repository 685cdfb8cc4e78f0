"""SettlementService: what payment tells, in any order and any number of times."""

from __future__ import annotations

import asyncio
from itertools import permutations

import pytest
from google.type.money_pb2 import Money
from grpc import StatusCode

from services.kit.ids import uuid7
from shop.order.v1.order_pb2 import Order, OrderEvent
from shop.order.v1.settlement_pb2 import (
    MarkPaidRequest,
    MarkPaidResponse,
    MarkPaymentFailedRequest,
)
from tests import callers
from tests.metered import sample
from tests.order.shop import Shop, euros
from tests.running import refused

ACCEPTED, REFUND = MarkPaidResponse.ACCEPTED, MarkPaidResponse.REFUND


async def fail(shop: Shop, order: Order, payment_id: str, note: str = "") -> None:
    await shop.settlement.MarkPaymentFailed(
        MarkPaymentFailedRequest(order_id=order.id, payment_id=payment_id, note=note),
        metadata=callers.service("payment"),
    )


class TestMarkPaid:
    async def test_the_order_is_paid_and_all_that_follows_happens(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=5, price=12, name="Läselampe")
        order = await shop.order(customer, (lamp, 2))
        payment = str(uuid7())
        counted = sample("shop_orders_total", status="PAID")
        money = sample("shop_orders_money_total", status="PAID", currency="EUR")
        assert await shop.pay(order, payment) == ACCEPTED
        paid = await shop.get(order)
        assert sample("shop_orders_total", status="PAID") == counted + 1
        assert sample("shop_orders_money_total", status="PAID", currency="EUR") == money + 2400
        assert (paid.status, paid.payment_id) == (Order.PAID, payment)
        assert not paid.HasField("expire_time")
        assert (await shop.events(order))[-1].actor == OrderEvent.SYSTEM
        await shop.settle()
        assert await shop.stock(lamp) == (3, 0)
        (mail,) = shop.mails()
        assert mail["To"] == order.email
        assert order.number in mail["Subject"]
        assert "2 x Läselampe" in mail.get_content()
        assert "24.00 EUR" in mail.get_content()
        await shop.audit()

    async def test_repeating_it_answers_the_same_and_does_nothing(self, shop: Shop) -> None:
        _, order = await shop.placed()
        payment = str(uuid7())
        answers = await asyncio.gather(*(shop.pay(order, payment) for _ in range(10)))
        assert set(answers) == {ACCEPTED}
        assert len(await shop.events(order)) == 3
        await shop.audit()
        await shop.cancel(order, shop.staff)
        assert await shop.pay(order, payment) == ACCEPTED

    async def test_another_payment_of_it_is_given_back(self, shop: Shop) -> None:
        _, order = await shop.placed()
        answers = await asyncio.gather(*(shop.pay(order) for _ in range(5)))
        assert sorted(answers) == [ACCEPTED] + [REFUND] * 4
        await shop.audit()

    async def test_a_cancelled_order_gives_it_back(self, shop: Shop) -> None:
        customer, order = await shop.placed()
        await shop.cancel(order, customer)
        payment = str(uuid7())
        for _ in range(2):
            assert await shop.pay(order, payment) == REFUND
        assert (await shop.get(order)).payment_id == ""
        for _ in range(2):
            await shop.refund(order, payment, order.total)
        told = [event.note for event in (await shop.events(order))[-2:]]
        assert told[0].startswith("A payment came that the order cannot take any more")
        assert told[1].startswith("10.00 EUR given back")
        assert (await shop.get(order)).status == Order.CANCELLED
        await shop.audit()

    async def test_an_expired_order_gives_it_back(self, shop: Shop) -> None:
        _, order = await shop.placed()
        await shop.expire(order)
        assert await shop.pay(order) == REFUND
        await shop.audit()

    @pytest.mark.parametrize(
        "amount",
        [euros(9, 99), euros(11), Money(currency_code="USD", units=10)],
        ids=["less", "more", "dollars"],
    )
    async def test_another_amount_is_a_mismatch(self, shop: Shop, amount: Money) -> None:
        _, order = await shop.placed()
        with refused(StatusCode.FAILED_PRECONDITION, "AMOUNT_MISMATCH"):
            await shop.pay(order, amount=amount)
        assert (await shop.get(order)).status == Order.AWAITING_PAYMENT

    async def test_an_order_that_does_not_exist(self, shop: Shop) -> None:
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await shop.pay(Order(id=str(uuid7())), amount=euros(1))

    async def test_it_is_for_services(self, shop: Shop) -> None:
        _, order = await shop.placed()
        request = MarkPaidRequest(order_id=order.id, payment_id=str(uuid7()), amount=order.total)
        with refused(StatusCode.UNAUTHENTICATED, "SERVICE_CREDENTIAL_INVALID"):
            await shop.settlement.MarkPaid(request, metadata=shop.staff())

    async def test_when_the_goods_are_gone_the_order_is_given_up(self, shop: Shop) -> None:
        customer = await shop.customer()
        lamp = await shop.product(stock=1)
        order = await shop.order(customer, (lamp, 1))
        await shop.owner.execute("UPDATE catalog.reservations SET expire_time = now()")
        await shop.owner.execute("UPDATE catalog.reservations SET state = 4")
        await shop.owner.execute("UPDATE catalog.stock SET reserved = 0")
        other = await shop.order(await shop.customer(), (lamp, 1))
        assert await shop.pay(order) == ACCEPTED
        await shop.settle()
        given_up = await shop.get(order)
        assert given_up.status == Order.CANCELLED
        assert (await shop.events(order))[-1].note.startswith("The time to pay was over")
        assert (await shop.get(other)).status == Order.AWAITING_PAYMENT
        await shop.audit()

    async def test_when_the_hold_ran_out_but_the_goods_are_there_they_are_taken(
        self, shop: Shop
    ) -> None:
        lamp = await shop.product(stock=1)
        order = await shop.order(await shop.customer(), (lamp, 1))
        await shop.owner.execute("UPDATE catalog.reservations SET state = 4")
        await shop.owner.execute("UPDATE catalog.stock SET reserved = 0")
        await shop.pay(order)
        await shop.settle()
        assert (await shop.get(order)).status == Order.PAID
        assert await shop.stock(lamp) == (0, 0)
        await shop.audit()


class TestMarkPaymentFailed:
    async def test_it_stands_in_the_history_once_and_the_order_can_be_paid(
        self, shop: Shop
    ) -> None:
        _, order = await shop.placed()
        payment = str(uuid7())
        for _ in range(3):
            await fail(shop, order, payment, "The card was declined.")
        events = await shop.events(order)
        assert [event.note for event in events[2:]] == ["The card was declined."]
        assert (await shop.get(order)).status == Order.AWAITING_PAYMENT
        assert await shop.pay(order) == ACCEPTED

    async def test_late_news_change_nothing(self, shop: Shop) -> None:
        _, order = await shop.placed()
        await shop.pay(order)
        before = await shop.get(order)
        await fail(shop, order, str(uuid7()))
        assert await shop.get(order) == before


class TestMarkRefunded:
    async def test_a_part_and_then_the_rest(self, shop: Shop) -> None:
        _, order = await shop.placed()
        payment = str(uuid7())
        await shop.pay(order, payment)
        await shop.refund(order, payment, euros(3))
        partly = await shop.get(order)
        assert (partly.status, partly.refunded_total) == (Order.PARTIALLY_REFUNDED, euros(3))
        await shop.refund(order, payment, euros(3))
        await shop.refund(order, payment, euros(2))
        assert await shop.get(order) == partly
        await shop.refund(order, payment, euros(10))
        fully = await shop.get(order)
        assert (fully.status, fully.refunded_total) == (Order.REFUNDED, euros(10))
        await shop.audit()

    async def test_the_history_tells_how_much_and_why_each_time(self, shop: Shop) -> None:
        _, order = await shop.placed()
        payment = str(uuid7())
        await shop.pay(order, payment)
        await shop.refund(order, payment, euros(3), note="A scratch.")
        await shop.refund(order, payment, euros(10))
        told = [event.note for event in (await shop.events(order))[-2:]]
        assert told == ["3.00 EUR given back: A scratch.", "7.00 EUR given back."]

    async def test_what_was_never_packed_goes_back_on_hand(self, shop: Shop) -> None:
        lamp = await shop.product(stock=5)
        order = await shop.order(await shop.customer(), (lamp, 2))
        payment = str(uuid7())
        await shop.pay(order, payment)
        await shop.refund(order, payment, order.total)
        await shop.settle()
        assert await shop.stock(lamp) == (5, 0)

    async def test_a_cancelled_order_stays_cancelled(self, shop: Shop) -> None:
        customer, order = await shop.placed()
        payment = str(uuid7())
        await shop.pay(order, payment)
        await shop.cancel(order, customer)
        await shop.refund(order, payment, order.total)
        after = await shop.get(order)
        assert (after.status, after.refunded_total) == (Order.CANCELLED, order.total)
        await shop.audit()

    async def test_the_money_of_another_payment_is_not_the_orders(self, shop: Shop) -> None:
        _, order = await shop.placed()
        await shop.pay(order)
        await shop.refund(order, str(uuid7()), order.total)
        assert (await shop.get(order)).status == Order.PAID

    async def test_more_than_was_paid_is_a_mismatch(self, shop: Shop) -> None:
        _, order = await shop.placed()
        payment = str(uuid7())
        await shop.pay(order, payment)
        for amount in (euros(10, 1), Money(currency_code="USD", units=1)):
            with refused(StatusCode.FAILED_PRECONDITION, "AMOUNT_MISMATCH"):
                await shop.refund(order, payment, amount)

    async def test_the_order_of_what_is_told_does_not_matter(self, shop: Shop) -> None:
        for steps in permutations(["fail", "pay", "part", "part again"]):
            _, order = await shop.placed()
            payment = str(uuid7())
            for step in steps:
                if step == "fail":
                    await fail(shop, order, str(uuid7()))
                elif step == "pay":
                    assert await shop.pay(order, payment) == ACCEPTED
                else:
                    await shop.refund(order, payment, euros(4))
            after = await shop.get(order)
            assert after.status == Order.PARTIALLY_REFUNDED
            assert after.refunded_total == euros(4)
        await shop.audit()

    async def test_a_full_refund_before_the_payment_leaves_it_unpaid(self, shop: Shop) -> None:
        _, order = await shop.placed()
        payment = str(uuid7())
        await shop.refund(order, payment, order.total)
        assert await shop.pay(order, payment) == REFUND
        assert (await shop.get(order)).status == Order.AWAITING_PAYMENT
