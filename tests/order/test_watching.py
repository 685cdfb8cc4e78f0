"""WatchOrder: a stream of an order's events, from any of them on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from contextlib import aclosing
from uuid import UUID

import grpc
from grpc import StatusCode

from services.kit.ids import uuid7
from services.order.watching import Watchers
from shop.order.v1.order_pb2 import Order, WatchOrderRequest, WatchOrderResponse
from tests.callers import NOBODY, User
from tests.kit.waiting import AT_ONCE, until
from tests.order.shop import Shop
from tests.running import refused

End = WatchOrderResponse.End


def watch(shop: Shop, order: Order, by: User, after: int = 0) -> AsyncIterable[WatchOrderResponse]:
    request = WatchOrderRequest(id=order.id, after_sequence=after)
    return shop.orders.WatchOrder(request, metadata=by())


async def kinds(stream: AsyncIterable[WatchOrderResponse]) -> list[str]:
    """What came until the end, without heartbeats."""
    seen = []
    async for message in stream:
        kind = message.WhichOneof("message")
        if kind == "event":
            seen.append(Order.Status.Name(message.event.to_status))
        elif kind == "end":
            seen.append(End.Cause.Name(message.end.cause))
    return seen


class TestWatchOrder:
    async def test_what_was_comes_first_then_what_happens(self, shop: Shop) -> None:
        customer, order = await shop.placed()
        stream = watch(shop, order, customer)
        seen = asyncio.create_task(kinds(stream))
        await asyncio.sleep(0.1)
        await shop.pay(order)
        await shop.move(order, Order.FULFILLING)
        assert (await seen)[:4] == ["PENDING", "AWAITING_PAYMENT", "PAID", "FULFILLING"]

    async def test_an_event_arrives_at_once(self, shop: Shop) -> None:
        customer, order = await shop.placed()
        stream = aiter(watch(shop, order, customer, after=2))
        while (await anext(stream)).WhichOneof("message") != "heartbeat":
            pass
        await shop.pay(order)
        async with asyncio.timeout(2 * AT_ONCE):
            while (message := await anext(stream)).WhichOneof("message") == "heartbeat":
                pass
        assert message.event.to_status == Order.PAID

    async def test_it_goes_on_after_a_sequence(self, shop: Shop) -> None:
        customer, order = await shop.placed()
        await shop.cancel(order, customer)
        assert await kinds(watch(shop, order, customer, after=1)) == [
            "AWAITING_PAYMENT",
            "CANCELLED",
            "ORDER_FINAL",
        ]
        assert await kinds(watch(shop, order, customer, after=3)) == ["ORDER_FINAL"]
        assert await kinds(watch(shop, order, customer, after=99)) == ["ORDER_FINAL"]

    async def test_it_ends_with_the_order(self, shop: Shop) -> None:
        customer, order = await shop.placed()
        payment = str(uuid7())
        await shop.pay(order, payment)
        seen = asyncio.create_task(kinds(watch(shop, order, customer, after=3)))
        await shop.cancel(order, customer)
        await asyncio.sleep(0.1)
        assert not seen.done()  # the money is still to be given back
        await shop.refund(order, payment, order.total)
        assert await seen == ["CANCELLED", "CANCELLED", "ORDER_FINAL"]

    async def test_it_says_that_it_is_alive_and_ends_in_time(self, shop: Shop) -> None:
        customer, order = await shop.placed()
        messages = [message async for message in watch(shop, order, customer, after=2)]
        beats = [message for message in messages if message.HasField("heartbeat")]
        assert len(beats) >= 4
        assert beats[0].heartbeat.send_time.seconds > 0
        assert messages[-1].end.cause == End.RECONNECT

    async def test_who_has_seen_all_hears_at_once_that_the_stream_stands(self, shop: Shop) -> None:
        _, order = await shop.placed()
        watchers = Watchers(shop.parts.orders.database, heartbeat_seconds=600)
        async with aclosing(watchers.watch(UUID(order.id), 2)) as stream, asyncio.timeout(60):
            assert (await anext(stream)).HasField("heartbeat")
        async with aclosing(watchers.watch(UUID(order.id), 1)) as stream, asyncio.timeout(60):
            assert (await anext(stream)).HasField("event")

    async def test_every_watcher_sees_every_event_in_its_order(self, shop: Shop) -> None:
        customer, order = await shop.placed()
        watching = [asyncio.create_task(kinds(watch(shop, order, customer))) for _ in range(15)]
        await shop.pay(order)
        await shop.move(order, Order.FULFILLING, Order.SHIPPED, Order.DELIVERED)
        wanted = [
            "PENDING",
            "AWAITING_PAYMENT",
            "PAID",
            "FULFILLING",
            "SHIPPED",
            "DELIVERED",
            "RECONNECT",
        ]
        assert await asyncio.gather(*watching) == [wanted] * 15

    async def test_too_many_are_refused_and_make_room_when_they_leave(self, shop: Shop) -> None:
        customer, order = await shop.placed()
        streams = [
            shop.orders.WatchOrder(WatchOrderRequest(id=order.id), metadata=customer())
            for _ in range(20)
        ]
        for stream in streams:
            await stream.read()
        with refused(StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"):
            await kinds(watch(shop, order, customer))
        for stream in streams:
            stream.cancel()
        await until(lambda: not shop.parts.watchers._wakes)
        stream = shop.orders.WatchOrder(WatchOrderRequest(id=order.id), metadata=customer())
        first = await stream.read()
        assert isinstance(first, WatchOrderResponse)
        stream.cancel()

    async def test_to_others_the_order_does_not_exist(self, shop: Shop) -> None:
        _, order = await shop.placed()
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await kinds(watch(shop, order, User()))
        with refused(StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"):
            async for _ in shop.orders.WatchOrder(WatchOrderRequest(id=order.id), metadata=NOBODY):
                pass
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            await kinds(watch(shop, Order(id="x"), shop.staff))

    async def test_a_client_that_leaves_is_forgotten(self, shop: Shop) -> None:
        customer, order = await shop.placed()
        stream = shop.orders.WatchOrder(WatchOrderRequest(id=order.id), metadata=customer())
        assert await stream.read() is not grpc.aio.EOF
        stream.cancel()
        await until(lambda: not shop.parts.watchers._wakes)
