"""What a payment costs: `python -m bench payments`, about half a minute.

ProcessPayment by gRPC and by REST, through the edge of a shop of its own whose Stripe is the
sandbox, and beside them the charge alone, by Stripe's SDK at the same sandbox. They take turns,
round after round, over orders that were made before; a ratio is taken within a round, and the
median is shown. In the end Stripe, the payments and the orders are asked whether they agree.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc
import stripe
from google.type.postal_address_pb2 import PostalAddress
from rich.console import Console
from rich.table import Table

from bench import shop as shops
from bench.clients import Rest
from bench.shop_loads import ADDRESS
from cli import seed_rows
from cli.data_folder import DataFolder
from cli.database import databases_of
from cli.services import SANDBOX_KEY
from cli.verify import verify
from shop.order.v1.order_pb2 import CreateOrderRequest
from shop.order.v1.order_pb2_grpc import OrderServiceStub
from shop.payment.v1.payment_pb2 import Payment, ProcessPaymentRequest
from shop.payment.v1.payment_pb2_grpc import PaymentServiceStub

AT_ONCE = 4
PRODUCTS = 1_000
ROUNDS = 4
PER_PAYER = 10
CARD = "pm_card_visa"
ALONE = "charge alone (Stripe's SDK)"
PAID_SECONDS = 30

Pay = Callable[[str], Awaitable[None]]


@dataclass
class Times:
    """The milliseconds of each call, and the calls per second and the median of each round."""

    milliseconds: list[float]
    rates: list[float]
    medians: list[float]

    def add(self, measured: list[float], seconds: float) -> None:
        """Take a round in."""
        self.milliseconds += measured
        self.rates.append(len(measured) / seconds)
        self.medians.append(statistics.median(measured))


@dataclass(frozen=True)
class Payer:
    """A customer on connections of their own, who orders beforehand and then pays."""

    metadata: Sequence[tuple[str, str]]
    orders: OrderServiceStub
    payments: PaymentServiceStub
    rest: Rest
    variant: str

    async def order(self) -> str:
        items = [CreateOrderRequest.Item(variant_id=self.variant, quantity=1)]
        request = CreateOrderRequest(items=items, shipping_address=PostalAddress(**ADDRESS))
        return str((await self.orders.CreateOrder(request, metadata=self.metadata)).id)

    async def process(self, order: str) -> None:
        request = ProcessPaymentRequest(order_id=order, payment_method=CARD)
        payment = await self.payments.ProcessPayment(request, metadata=self.metadata)
        assert payment.status == Payment.SUCCEEDED

    async def post(self, order: str) -> None:
        body = json.dumps({"order_id": order, "payment_method": CARD})
        answer = json.loads(await self.rest.send("POST", "/api/payment/", body))
        assert answer["status"] == "SUCCEEDED"


async def measure(pays: Sequence[Pay], orders: Iterator[str]) -> tuple[list[float], float]:
    """Each payer pays one order after another: milliseconds of every call, and all the seconds."""
    milliseconds: list[float] = []
    began = time.perf_counter()

    async def work(pay: Pay) -> None:
        for order in orders:
            begin = time.perf_counter()
            await pay(order)
            milliseconds.append((time.perf_counter() - begin) * 1000)

    await asyncio.gather(*(work(pay) for pay in pays))
    return milliseconds, time.perf_counter() - began


async def take_turns(payers: Sequence[Payer], client: stripe.StripeClient) -> dict[str, Times]:
    """Every load in every round, after one that does not count."""

    async def charge(order: str) -> None:
        params: Any = {
            "amount": 1000,
            "currency": "eur",
            "payment_method": CARD,
            "confirm": True,
            "allowed_payment_method_types": ["card"],
        }
        await client.v1.payment_intents.create_async(params)

    times = {name: Times([], [], []) for name in (ALONE, "gRPC", "REST")}
    for number in range(ROUNDS + 1):
        for name, one in times.items():
            pays: list[Pay] = [charge for _ in payers]
            made = [["none"] * PER_PAYER for _ in payers]
            if name != ALONE:
                pays = [payer.process if name == "gRPC" else payer.post for payer in payers]
                # Only who has ordered may pay.
                made = [[await payer.order() for _ in range(PER_PAYER)] for payer in payers]
            turns = [measure([pay], iter(own)) for pay, own in zip(pays, made, strict=True)]
            began = time.perf_counter()
            taken = [call for calls, _ in await asyncio.gather(*turns) for call in calls]
            if number:
                one.add(taken, time.perf_counter() - began)
    return times


async def check(owner: asyncpg.Connection, client: stripe.StripeClient, url: str) -> str:
    """Whether all agree, in a sentence. Raises RuntimeError where they do not."""
    until = time.monotonic() + PAID_SECONDS
    paid = 'SELECT count(*) FROM "order".orders WHERE payment_id = ANY($1) AND status = 3'
    succeeded = [row["id"] for row in await owner.fetch("SELECT id FROM payment.payments")]
    while await owner.fetchval(paid, succeeded) != len(succeeded):
        if time.monotonic() > until:
            raise RuntimeError("not every order has heard of its payment")
        await asyncio.sleep(0.1)
    noted = set()
    async for intent in (
        await client.v1.payment_intents.list_async({"limit": 100})
    ).auto_paging_iter():
        if intent.metadata and "payment_id" in intent.metadata:
            noted.add(intent.metadata["payment_id"])
    broken = [found.invariant.name for found in await verify(databases_of(url)) if found.rows]
    if noted != {str(id) for id in succeeded} or broken:
        raise RuntimeError(f"{len(noted)} charges, {len(succeeded)} payments, broken: {broken}")
    return f"{len(noted)} charges, as many payments and paid orders, and every rule holds."


def table(times: dict[str, Times]) -> Table:
    """The figures as people read them."""
    drawn = Table(title=f"ProcessPayment, {AT_ONCE} at once through the edge, {ROUNDS} rounds")
    drawn.add_column("load", no_wrap=True)
    for column in ("per s", "p50 ms", "p99 ms", "p50 ÷ charge alone"):
        drawn.add_column(column, justify="right")
    base = times[ALONE]
    for name, one in times.items():
        ratios = [mine / its for mine, its in zip(one.medians, base.medians, strict=True)]
        calls = sorted(one.milliseconds)
        drawn.add_row(
            name,
            f"{statistics.median(one.rates):,.0f}",
            f"{statistics.median(calls):.1f}",
            f"{calls[len(calls) * 99 // 100]:.1f}",
            "-" if name == ALONE else f"{statistics.median(ratios):.2f}",
        )
    return drawn


async def bench(console: Console) -> dict[str, Times]:
    """Start a shop, load it, measure, check, and print the table."""
    async with AsyncExitStack() as stack:
        shop = await stack.enter_async_context(shops.running(PRODUCTS))
        goods = await seed_rows.goods(shop.databases.services["catalog"])
        host, _, port = shop.edge.rpartition(":")
        payers = []
        for customer, one in zip(shop.customers[:AT_ONCE], goods, strict=False):
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(shop.edge))
            rest = Rest(host, int(port), customer.token)
            payers.append(
                Payer(
                    (("authorization", f"Bearer {customer.token}"),),
                    OrderServiceStub(channel),
                    PaymentServiceStub(channel),
                    await stack.enter_async_context(rest),
                    str(one["id"]),
                )
            )
        transport = stripe.HTTPXClient()
        stack.push_async_callback(transport.close_async)
        address = DataFolder(shop.up.data).read_stripe_address()
        client = stripe.StripeClient(
            SANDBOX_KEY, base_addresses={"api": f"http://{address}"}, http_client=transport
        )
        owner = await asyncpg.connect(shop.owner_url)
        stack.push_async_callback(owner.close)
        times = await take_turns(payers, client)
        said = await check(owner, client, shop.owner_url)
    console.print(table(times))
    console.print(said)
    return times
