"""kill -9 of payments at every step: the customer paid once or not at all, and the order says so.

`SHOP_TEST_ROUNDS=20` repeats each step so often; once is the default.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import grpc
import pytest
from grpc.aio import AioRpcError

from services.payment.__main__ import Settings
from services.payment.faults import Point
from shop.order.v1.order_pb2 import Order
from shop.payment.v1.payment_pb2 import Payment
from tests.forked import Nursery
from tests.payment.neighbours import Sold
from tests.payment.processes import environment, running
from tests.payment.till import Till
from tests.running import refusal_of

ROUNDS = int(os.environ.get("SHOP_TEST_ROUNDS", "1"))
# Somebody is at it, or a process that has just been started knows nobody yet.
NOT_YET = {"IDEMPOTENCY_KEY_IN_USE", "DEPENDENCY_UNAVAILABLE"}
Open = Callable[[grpc.aio.Channel], Till]


async def paid(till: Till, order: Sold, card: str = "visa") -> Payment:
    """Pay with the order's own key, again and again until there is an answer."""
    async with asyncio.timeout(60):
        while True:
            try:
                payment = await till.pay(order, card, key=str(order.id), patience=5)
            except AioRpcError as error:
                assert refusal_of(error).reason in NOT_YET, error
            else:
                if payment.status != Payment.UNKNOWN:
                    return payment
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("point", [point for point in Point if point])
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_the_same_calls_again_end_as_if_nothing_had_happened(
    nursery: Nursery, settings: Settings, open_till: Open, point: Point, number: int
) -> None:
    async with running(nursery, settings, SHOP_FAULT=point.value) as process:
        till = open_till(process.channel)
        plain, asked, back, closed = (till.sell(1_000 * count) for count in range(1, 5))
        seen: list[Payment] = []
        with contextlib.suppress(AioRpcError):
            seen.append(await till.pay(plain, key=str(plain.id), patience=5))
            seen.append(await till.pay(back, key=str(back.id), patience=5))
            seen.append(await till.pay(closed, key=str(closed.id), patience=5))
            waiting = await till.pay(asked, "threeDSecureRequired", key=str(asked.id), patience=5)
            till.three_d_secure(waiting)
            await till.refund(seen[1], 500, key="back")
            closed.status = Order.CANCELLED
            await till.close(closed)
        assert await process.ended() == -signal.SIGKILL

    async with running(nursery, settings) as process:
        again = open_till(process.channel)
        till = Till(
            again.payments,
            again.closures,
            till.orders,
            till.users,
            till.stripe,
            till.connection,
            settings,
            customer=till.customer,
            staff=till.staff,
        )
        first = await paid(till, plain)
        assert {first.id, *(each.id for each in seen[:1])} == {first.id}
        waiting = await paid(till, asked, "threeDSecureRequired")
        if waiting.status == Payment.REQUIRES_ACTION:
            till.three_d_secure(waiting)
        given = await paid(till, back)
        await till.refund(given, 500, key="back")
        if closed.status != Order.CANCELLED:
            await paid(till, closed)
            closed.status = Order.CANCELLED
        await till.close(closed)
        for order in (plain, asked):
            await till.until_order(order, Order.PAID)
        await till.until_order(back, Order.PARTIALLY_REFUNDED)
        await till.until_quiet()
    captured = sorted(each["amount_received"] for each in till.captured())
    assert captured in ([1_000, 2_000, 3_000, 4_000], [1_000, 2_000, 3_000])
    owed = 500 + (4_000 if 4_000 in captured else 0)
    assert till.given_back() == owed


def refusal(settings: Settings, **more: str) -> str:
    """Why a process with these settings does not start."""
    ended = subprocess.run(
        [sys.executable, "-m", "services.payment"],
        env={**os.environ, **environment(settings), "SHOP_PAYMENT_LISTEN": "127.0.0.1:0", **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr


async def test_production_refuses_to_kill_itself(settings: Settings) -> None:
    told = await asyncio.to_thread(
        refusal, settings, SHOP_FAULT="pay.after_charge", SHOP_ENV="production"
    )
    assert "SHOP_FAULT" in told


async def test_a_missing_key_is_named(settings: Settings) -> None:
    told = await asyncio.to_thread(
        refusal, settings, SHOP_STRIPE_SECRET_KEY="", SHOP_STRIPE_WEBHOOK_SECRET="a,,b"
    )
    assert "SHOP_PAYMENT_STRIPE_SECRET_KEY" in told
    assert "SHOP_PAYMENT_STRIPE_WEBHOOK_SECRET" in told
    assert "a,,b" not in told


async def test_a_process_that_stops_finishes_the_payment_under_way(
    nursery: Nursery, settings: Settings, open_till: Open
) -> None:
    async with running(nursery, settings) as process:
        till = open_till(process.channel)
        order = till.sell()
        match = {"path": "/v1/payment_intents", "method": "POST"}
        till.stripe.fault("delay_answer", match=match, seconds=1)
        paying = asyncio.create_task(till.pay(order))
        await till.until_asked()
        process.process.send_signal(signal.SIGTERM)
        assert (await paying).status == Payment.SUCCEEDED
        assert await process.ended() == 0
