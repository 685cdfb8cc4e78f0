"""E5: five times what the shop can do is asked of it."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace

from google.type.postal_address_pb2 import PostalAddress

from bench.keys import KEY
from bench.load import Load, Measured
from bench.sending import measure
from cli.refusals import refusals
from services.kit import errors
from shop.errors.v1 import reason_pb2
from shop.order.v1 import order_pb2
from tests.siege.report import Report, percentile
from tests.sizes import promised
from tests.visitors import Shop

TIMES = 5
LEAST_GOODPUT = 0.9
SHED_SECONDS = 0.02
NORMAL_WITHIN = 5.0
# A load is sent by a process of its own, which has to start first.
START_SECONDS = 0.5
AT_ONCE = 16
# Where there are more than can be answered, they come from many sides; none of them has to wait for
# another to be answered.
CONNECTIONS, MOST_AT_ONCE = 16, 2_000
STOCK = 10_000_000
PRODUCTS = 50
ADDRESS = PostalAddress(region_code="GB", address_lines=["1 Byron Row"], locality="London")
CREATE_ORDER = "/shop.order.v1.OrderService/CreateOrder"


def orders(shop: Shop, token: str, variants: list[str]) -> Load:
    """Orders of two pieces by gRPC through the edge."""
    host, _, port = shop.ready.edge.removeprefix("http://").rpartition(":")
    return Load(
        "grpc",
        host,
        int(port),
        [
            (_order(one, other).SerializeToString().hex(), one.encode().hex())
            for one, other in zip(variants, variants[7:] + variants[:7], strict=True)
        ],
        CREATE_ORDER,
        {"authorization": f"Bearer {token}", "idempotency-key": KEY.decode()},
        refusals=[text.encode().hex() for text in sheds()],
    )


def _order(*variants: str) -> order_pb2.CreateOrderRequest:
    items = [order_pb2.CreateOrderRequest.Item(variant_id=each, quantity=1) for each in variants]
    return order_pb2.CreateOrderRequest(items=items, shipping_address=ADDRESS)


def sheds() -> list[str]:
    """What the details of a call hold that is shed: by the edge, or by a service."""
    edge = [each.status for each in refusals([]) if each.reason == reason_pb2.REASON_OVERLOADED]
    found = [each.SerializeToString() for each in (*edge, errors.overloaded().status())]
    assert all(b"google.rpc.RetryInfo" in each for each in found)
    return [base64.b64encode(each).decode().rstrip("=") for each in found]


async def flood(shop: Shop, report: Report, *, seconds: float, judged: bool = True) -> None:
    """Find out how many orders a second there can be, and ask for five times as many.

    Times are `judged` where nobody else keeps the machine busy.
    """
    ada = await shop.sign_up()
    made = [await shop.new_product(stock=STOCK) for _ in range(PRODUCTS)]
    load = orders(shop, ada.token, [one["default_variant_id"] for one in made])
    alone = replace(load, at_once=1, seconds=seconds / 4)
    await measure(replace(load, at_once=AT_ONCE, seconds=seconds / 4))
    most = await measure(replace(load, at_once=AT_ONCE, seconds=seconds))
    report.note("orders a second, 16 at once", most.rate)
    before = await measure(alone)
    flooded = await measure(
        replace(
            load,
            at_once=MOST_AT_ONCE,
            connections=CONNECTIONS,
            rate=TIMES * most.rate,
            seconds=seconds,
        )
    )
    await asyncio.sleep(NORMAL_WITHIN - START_SECONDS)
    after = await measure(alone)
    goodput = (len(flooded.microseconds) - flooded.wrong) / flooded.seconds / most.rate
    report.note("asked for a second", TIMES * most.rate)
    report.note("goodput, of what there can be", goodput)
    report.note("good ones, p50 and p99", _times(flooded.microseconds))
    report.note("shed", len(flooded.refused))
    report.note("shed after, p50 and p99", _times(flooded.refused))
    usual, now = percentile(before.microseconds, 50) / 1e6, percentile(after.microseconds, 50) / 1e6
    report.note("alone, p50 before and after", f"{usual * 1e3:.0f} ms, {now * 1e3:.0f} ms")
    for when, measured in (("before", most), ("alone", before), ("meanwhile", flooded)):
        report.check(bool(measured.microseconds), f"{when}: nothing was done")
        report.check(not measured.wrong, f"{when}: neither done nor shed: {_others(measured)}")
    refused = f"{len(after.refused)} shed, {_others(after)}"
    report.check(
        not after.refused and not after.wrong, f"five seconds later calls are refused: {refused}"
    )
    if not judged:
        return
    report.check(bool(flooded.refused), "nothing was shed")
    report.check(goodput >= LEAST_GOODPUT, f"goodput is {goodput:.2f}")
    slow = percentile(flooded.refused, 50) / 1e6 >= promised(SHED_SECONDS)
    report.check(not slow, "what is shed waits for it")
    report.check(now < max(2 * usual, promised(0.05)), "five seconds later calls are slow")


def _others(measured: Measured) -> str:
    """What was neither as expected nor shed."""
    unanswered = measured.wrong - sum(measured.wrong_answers.values())
    return f"{measured.wrong_answers} and {unanswered} without an answer"


def _times(microseconds: list[int]) -> str:
    return " and ".join(f"{percentile(microseconds, each) / 1e3:.0f} ms" for each in (50, 99))
