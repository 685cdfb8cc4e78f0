"""E5: five times what the shop can do is asked of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import grpc
from google.type.postal_address_pb2 import PostalAddress

from shop.order.v1 import order_pb2, order_pb2_grpc
from tests.faults.replicas import new_key
from tests.running import refusal_of
from tests.siege.report import Report, percentile
from tests.sizes import promised
from tests.visitors import Shop

TIMES = 5
LEAST_GOODPUT = 0.9
SHED_SECONDS = 0.02
NORMAL_WITHIN = 5.0
AT_ONCE = 16
STOCK = 10_000_000
# RESOURCE_EXHAUSTED, as the edge logs it.
SHED_STATUSES = {"8", "ResourceExhausted"}
PRODUCTS = 50
ADDRESS = PostalAddress(region_code="GB", address_lines=["1 Byron Row"], locality="London")


@dataclass
class Calls:
    """What became of calls: when the good ones ended and how long they took, and the others."""

    good: list[tuple[float, float]] = field(default_factory=list)
    shed: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """All of them."""
        return len(self.good) + len(self.shed) + self.others.total()


class Orders:
    """Orders by gRPC through the edge, on several connections."""

    def __init__(self, shop: Shop, token: str, variants: list[str]) -> None:
        where = shop.ready.edge.removeprefix("http://")
        options = (("grpc.use_local_subchannel_pool", 1),)
        self.channels = [grpc.aio.insecure_channel(where, options=options) for _ in range(8)]
        self._stubs = [order_pb2_grpc.OrderServiceStub(channel) for channel in self.channels]
        self._signed = ("authorization", f"Bearer {token}")
        self._variants = variants
        self._number = 0

    async def make(self, calls: Calls) -> None:
        """Order two pieces."""
        self._number += 1
        stub = self._stubs[self._number % len(self._stubs)]
        items = [
            order_pb2.CreateOrderRequest.Item(
                variant_id=self._variants[(self._number + step) % len(self._variants)], quantity=1
            )
            for step in (0, 7)
        ]
        request = order_pb2.CreateOrderRequest(items=items, shipping_address=ADDRESS)
        key = ("idempotency-key", new_key())
        began = time.monotonic()
        try:
            await stub.CreateOrder(request, metadata=(self._signed, key), timeout=5)
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            if refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED and refusal.retry_seconds:
                calls.shed.append(time.monotonic() - began)
            else:
                calls.others[f"{refusal.code.name} {refusal.reason}"] += 1
        else:
            now = time.monotonic()
            calls.good.append((now, now - began))

    async def closed(self, seconds: float, at_once: int = AT_ONCE) -> Calls:
        """So many at any time: as many as the shop can do."""
        calls, until = Calls(), time.monotonic() + seconds

        async def work() -> None:
            while time.monotonic() < until:
                await self.make(calls)

        await asyncio.gather(*(work() for _ in range(at_once)))
        return calls

    async def paced(self, seconds: float, rate: float) -> Calls:
        """So many a second, whatever becomes of them."""
        calls, began, number = Calls(), time.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            while (due := number / rate) < seconds:
                await asyncio.sleep(max(0.0, began + due - time.monotonic()))
                group.create_task(self.make(calls))
                number += 1
        return calls


async def flood(shop: Shop, report: Report, *, seconds: float, judged: bool = True) -> None:
    """Find out how many orders a second there can be, and ask for five times as many.

    Times are `judged` where nobody else keeps the machine busy.
    """
    ada = await shop.sign_up()
    made = [await shop.new_product(stock=STOCK) for _ in range(PRODUCTS)]
    orders = Orders(shop, ada.token, [one["default_variant_id"] for one in made])
    try:
        await orders.closed(seconds / 4)
        most = await orders.closed(seconds)
        capacity = len(most.good) / seconds
        report.note("orders a second, 16 at once", capacity)
        alone = await orders.closed(seconds / 4, 1)
        usual = percentile([took for _, took in alone.good], 50)
        began = time.monotonic()
        flooded = await orders.paced(seconds, TIMES * capacity)
        asked = flooded.count / seconds
        ended = began + seconds
        good = [took for at, took in flooded.good if at <= ended]
        goodput = len(good) / seconds / capacity
        report.note("asked for a second", asked)
        report.note("goodput, of what there can be", goodput)
        report.note("good ones, p50 and p99", _times(good))
        report.note("shed", len(flooded.shed))
        report.note("shed after, p50 and p99", _times(flooded.shed))
        at_edge = _shed_at_edge(shop)
        report.note("the same by the edge's clock", _times(at_edge))
        report.note("others", dict(flooded.others))
        report.check(bool(flooded.good), "nothing was done")
        report.check(not flooded.others, f"neither done nor shed: {dict(flooded.others)}")
        await asyncio.sleep(max(0.0, ended + NORMAL_WITHIN - time.monotonic()))
        after = await orders.closed(seconds / 4, 1)
        now = percentile([took for _, took in after.good], 50)
        report.note("alone, p50 before and after", f"{usual * 1e3:.0f} ms, {now * 1e3:.0f} ms")
        report.note(
            "after, shed and others", f"{len(after.shed)} {dict(after.others)} of {after.count}"
        )
        report.check(after.count == len(after.good), "five seconds later calls are refused")
        if not judged:
            return
        report.check(bool(flooded.shed), "nothing was shed")
        report.check(goodput >= LEAST_GOODPUT, f"goodput is {goodput:.2f}")
        # The client shares the machine with everything else, and waits for itself, too.
        slow = percentile(at_edge, 50) >= promised(SHED_SECONDS)
        report.check(bool(at_edge) and not slow, "what is shed waits for it")
        report.check(now < max(2 * usual, promised(0.05)), "five seconds later calls are slow")
    finally:
        for channel in orders.channels:
            await channel.close()


def _shed_at_edge(shop: Shop) -> list[float]:
    """How long the edge had the calls that were shed, where it logs all calls."""
    return [
        line["milliseconds"] / 1000
        for line in shop.up.events("envoy")
        if str(line.get("rpc", "")).endswith(".CreateOrder")
        and str(line.get("grpc_status", "")) in SHED_STATUSES
    ]


def _times(seconds: list[float]) -> str:
    return f"{percentile(seconds, 50) * 1000:.0f} ms, {percentile(seconds, 99) * 1000:.0f} ms"
