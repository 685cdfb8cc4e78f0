"""What carts and orders cost: `python -m bench.orders`, about a minute.

AddItem, CreateOrder of two or three lines and ListUserOrders of 20, by gRPC and by REST, both
through the edge of a shop of its own, and beside CreateOrder the same rows as one plain SQL
transaction, by pgbench, in the same Postgres. Loads take turns, round after round, so that whatever
else the machine does hits all of them; a ratio is taken within a round, and the median is shown.
In the end the database is asked whether it has the orders, and whether their stock is held.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import grpc
from google.type.postal_address_pb2 import PostalAddress
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench import plain_sql
from bench.clients import Rest
from cli import accounts, catalogue, seed, seed_orders, seed_people, seed_rows
from cli.data_folder import DataFolder
from cli.database import Databases, databases_of
from cli.verify import verify
from services.kit.statements import Fields
from shop.cart.v1.cart_pb2 import AddItemRequest
from shop.cart.v1.cart_pb2_grpc import CartServiceStub
from shop.order.v1.order_pb2 import CreateOrderRequest, ListUserOrdersRequest
from shop.order.v1.order_pb2_grpc import OrderServiceStub
from tests import shop as shops

AT_ONCE = 4
ROUNDS = 5
SECONDS = 1
WARM_UP_SECONDS = 1
# After so long no other round begins, however slow the machine is; the first always does.
LAST_BEGIN_SECONDS = 60
PRODUCTS = 600
# How many orders there are before; each caller has some of them.
ORDERS = 500
PAGE = 20
# A cart has at most 100 items of 999 pieces each: enough for a round.
VARIANTS_OF_CART = 80
ADDRESS = PostalAddress(region_code="US", address_lines=["1 Bench Street"])
PLAIN = "same rows, plain SQL (pgbench)"

Call = Callable[[random.Random], Awaitable[Any]]


@dataclass(frozen=True)
class Caller:
    """A signed-in customer on connections of their own."""

    user_id: str
    metadata: Sequence[tuple[str, str]]
    carts: CartServiceStub
    orders: OrderServiceStub
    rest: Rest
    variants: Sequence[str]

    def calls(self) -> dict[str, Call]:
        """What is measured, by name."""
        return {
            "CreateOrder, gRPC": self.create_order,
            "CreateOrder, REST": self.post_order,
            "AddItem, gRPC": self.add_item,
            "AddItem, REST": self.post_item,
            f"ListUserOrders of {PAGE}, gRPC": self.list_orders,
            f"ListUserOrders of {PAGE}, REST": self.get_orders,
        }

    def _lines(self, luck: random.Random) -> list[dict[str, Any]]:
        chosen = luck.sample(self.variants, luck.randint(2, 3))
        return [{"variant_id": variant, "quantity": 1} for variant in chosen]

    def _item(self, luck: random.Random) -> str:
        return luck.choice(self.variants[:VARIANTS_OF_CART])

    async def create_order(self, luck: random.Random) -> None:
        items = [CreateOrderRequest.Item(**line) for line in self._lines(luck)]
        request = CreateOrderRequest(items=items, shipping_address=ADDRESS)
        await self.orders.CreateOrder(request, metadata=self.metadata)

    async def post_order(self, luck: random.Random) -> None:
        address = {"region_code": "US", "address_lines": list(ADDRESS.address_lines)}
        order = {"items": self._lines(luck), "shipping_address": address}
        await self.rest.send("POST", "/api/orders/", json.dumps(order))

    async def add_item(self, luck: random.Random) -> None:
        request = AddItemRequest(variant_id=self._item(luck), quantity=1)
        await self.carts.AddItem(request, metadata=self.metadata)

    async def post_item(self, luck: random.Random) -> None:
        item = {"variant_id": self._item(luck), "quantity": 1}
        await self.rest.send("POST", "/api/cart/items/", json.dumps(item))

    async def list_orders(self, luck: random.Random) -> None:
        request = ListUserOrdersRequest(user_id=self.user_id, page_size=PAGE)
        found = await self.orders.ListUserOrders(request, metadata=self.metadata)
        assert len(found.orders) == PAGE

    async def get_orders(self, luck: random.Random) -> None:
        path = f"/api/orders/user/{self.user_id}/?page_size={PAGE}"
        assert len(json.loads(await self.rest.send("GET", path))["orders"]) == PAGE


@dataclass
class Times:
    """The milliseconds of each call, and the calls per second of each round."""

    milliseconds: list[float]
    rates: list[float]
    medians: list[float]

    def add(self, measured: list[float], seconds: float) -> None:
        """Take a round in."""
        self.milliseconds += measured
        self.rates.append(len(measured) / seconds)
        self.medians.append(statistics.median(measured))


async def load(databases: Databases) -> Sequence[Fields]:
    """Products with more stock than anybody orders, customers and orders; the customers."""
    urls = databases.services
    items = (
        replace(item, choices=tuple(replace(one, on_hand=1_000_000) for one in item.choices))
        for item in catalogue.made_up_items(PRODUCTS, seed="bench")
    )
    await seed.load(urls["catalog"], items)
    await seed_people.load_users(urls["users"], AT_ONCE, "bench")
    customers = await seed_rows.customers(urls["users"], AT_ONCE)
    goods = await seed_rows.goods(urls["catalog"])
    await seed_orders.load(urls, ORDERS, "bench", customers, goods)
    assert databases.owner is not None
    owner = await asyncpg.connect(databases.owner)
    await owner.execute("VACUUM (ANALYZE)")
    await owner.close()
    return customers


async def measure(call: Sequence[Call], seconds: float) -> tuple[list[float], float]:
    """Each caller calls again and again: the milliseconds of every call, and how long it took."""
    milliseconds: list[float] = []
    began = time.perf_counter()

    async def work(one: Call, luck: random.Random) -> None:
        while (begin := time.perf_counter()) - began < seconds:
            await one(luck)
            milliseconds.append((time.perf_counter() - begin) * 1000)

    await asyncio.gather(*(work(one, random.Random()) for one in call))
    return milliseconds, time.perf_counter() - began


async def take_turns(
    callers: list[Caller], url: str, variants: int, until: float
) -> dict[str, Times]:
    """Every load in every round that begins before `until`, after one that does not count."""
    loads = {name: [one.calls()[name] for one in callers] for name in callers[0].calls()}
    times = {name: Times([], [], []) for name in (PLAIN, *loads)}

    async def plain(seconds: int) -> list[float]:
        return await asyncio.to_thread(
            plain_sql.run, url, variants, callers[0].user_id, AT_ONCE, seconds
        )

    await plain(WARM_UP_SECONDS)
    for calls in loads.values():
        await measure(calls, WARM_UP_SECONDS)
    with Progress(transient=True) as bar:
        for number in bar.track(range(ROUNDS), description="measuring"):
            if number and time.perf_counter() > until:
                break
            times[PLAIN].add(await plain(SECONDS), SECONDS)
            for name, calls in loads.items():
                times[name].add(*await measure(calls, SECONDS))
    return times


async def check(
    owner: asyncpg.Connection, before: tuple[int, int], answered: int, databases: Databases
) -> str:
    """What the loads left in the database, in a sentence. Raises RuntimeError when it is wrong.

    `answered` orders were answered in the rounds; those of the warming up come on top.
    """
    after = await counted(owner)
    made, held = (now - then for now, then in zip(after, before, strict=True))
    pieces = await owner.fetchval(
        'SELECT sum(l.quantity) FROM "order".order_lines l'
        ' JOIN "order".orders o ON o.id = l.order_id WHERE o.shipping_address @> $1',
        json.dumps({"address_lines": list(ADDRESS.address_lines)}),
    )
    broken = [found.invariant.name for found in await verify(databases) if found.rows]
    if made < answered or held != pieces or broken:
        raise RuntimeError(
            f"{answered} orders were answered, {made} are there; {pieces} pieces were ordered, "
            f"{held} are held; broken rules: {broken}"
        )
    return f"{made:,} orders were made, their {held:,} pieces are held, and every rule holds."


async def counted(owner: asyncpg.Connection) -> tuple[int, int]:
    """How many orders there are, and how many pieces are held."""
    row = await owner.fetchrow(
        'SELECT (SELECT count(*) FROM "order".orders), (SELECT sum(reserved) FROM catalog.stock)'
    )
    assert row is not None
    return row[0], row[1]


def table(times: dict[str, Times]) -> Table:
    """The figures as people read them."""
    drawn = Table(
        title=f"{AT_ONCE} calls at once through the edge, {len(times[PLAIN].rates)} rounds"
    )
    drawn.add_column("load", no_wrap=True)
    for column in ("per s", "p50 ms", "p99 ms", "rate ÷ plain", "p50 ÷ plain"):
        drawn.add_column(column, justify="right")
    base = times[PLAIN]
    for name, one in times.items():
        slower = ["-", "-"]
        if name.startswith("CreateOrder"):
            rates = [mine / its for mine, its in zip(one.rates, base.rates, strict=True)]
            medians = [mine / its for mine, its in zip(one.medians, base.medians, strict=True)]
            slower = [f"{statistics.median(rates):.3f}", f"{statistics.median(medians):.1f}"]
        sorted_times = sorted(one.milliseconds)
        drawn.add_row(
            name,
            f"{statistics.median(one.rates):,.0f}",
            f"{sorted_times[len(sorted_times) // 2]:.2f}",
            f"{sorted_times[len(sorted_times) * 99 // 100]:.2f}",
            *slower,
        )
    return drawn


async def bench(console: Console) -> dict[str, Times]:
    """Start a shop, load it, measure, check, and print the table."""
    until = time.perf_counter() + LAST_BEGIN_SECONDS
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shop-bench-")))
        up = await stack.enter_async_context(
            shops.running(folder, "--port", "0", "--no-demo", SHOP_LOG_LEVEL="error")
        )
        ready = await up.ready()
        databases = databases_of(ready.database_url)
        customers = await load(databases)
        owner = await asyncpg.connect(ready.database_url)
        stack.push_async_callback(owner.close)
        variants = await plain_sql.prepare(owner)
        chosen = await owner.fetch("SELECT variant_id FROM bench.variants ORDER BY number")
        edge = urlsplit(ready.edge)
        callers = []
        for customer in customers:
            token = await accounts.access_token(
                databases.services["users"], customer["email"], DataFolder(up.data).keys, "shop"
            )
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(edge.netloc))
            rest = Rest(edge.hostname or "", edge.port or 80, token)
            callers.append(
                Caller(
                    str(customer["id"]),
                    (("authorization", f"Bearer {token}"),),
                    CartServiceStub(channel),
                    OrderServiceStub(channel),
                    await stack.enter_async_context(rest),
                    [str(row["variant_id"]) for row in chosen],
                )
            )
        before = await counted(owner)
        times = await take_turns(callers, ready.database_url, variants, until)
        orders = [one for name, one in times.items() if name == PLAIN or "CreateOrder" in name]
        answered = sum(len(one.milliseconds) for one in orders)
        said = await check(owner, before, answered, databases)
        await plain_sql.remove(owner)
    console.print(table(times))
    console.print(said)
    return times


if __name__ == "__main__":
    asyncio.run(bench(Console()))
