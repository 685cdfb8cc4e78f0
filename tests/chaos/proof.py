"""After the blows: is everything there that was acknowledged, and nothing else?"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import asyncpg
from google.protobuf import json_format
from google.type import money_pb2

from cli.commands import open_databases
from cli.topology import ALL_SERVICES
from cli.verify import Finding, verify
from shop.order.v1.order_pb2 import Order
from tests.chaos.ledger import Ledger
from tests.chaos.settling import Cashier
from tests.chaos.shoppers import Placed, Shopper, pieces
from tests.shop import ShopUp

SETTLED_WITHIN = 120.0


async def settled(database_url: str) -> float | None:
    """Wait until nothing is left to be done: no outbox has a row, no order is on its way.

    How many seconds that took; None when it does not come to that.
    """
    began = time.monotonic()
    database = await asyncpg.connect(database_url)
    try:
        tables = await database.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
            " WHERE tablename = 'outbox' AND schemaname = ANY($1)",
            list(ALL_SERVICES),
        )
        rest = [f"EXISTS (SELECT FROM {row['name']})" for row in tables]
        rest.append(f'EXISTS (SELECT FROM "order".orders WHERE status = {Order.PENDING})')
        while await database.fetchval(f"SELECT {' OR '.join(rest)}"):
            if time.monotonic() - began > SETTLED_WITHIN:
                return None
            await asyncio.sleep(0.1)
    finally:
        await database.close()
    return time.monotonic() - began


async def audit(up: ShopUp) -> list[Finding]:
    """What `shop verify` finds, without the rules about payments: here nobody has made any."""
    async with open_databases(up.data) as databases:
        findings = await verify(databases)
    return [found for found in findings if "payment" not in found.invariant.schemas]


async def check(ledger: Ledger, shoppers: Sequence[Shopper], cashier: Cashier) -> None:
    """Compare what everybody was told with what the shop answers now."""
    for shopper in shoppers:
        found = await _orders(ledger, shopper)
        ledger.check(
            found.keys() == shopper.orders.keys(),
            f"{len(found.keys() - shopper.orders.keys())} orders of one customer were made unasked,"
            f" {len(shopper.orders.keys() - found.keys())} are lost",
        )
        for placed in shopper.orders.values():
            if order := found.get(placed.id):
                _check_order(ledger, placed, order)
                _check_money(ledger, cashier, order)
        for order_id in shopper.cancelled & found.keys():
            status = found[order_id]["status"]
            ledger.check(status == "CANCELLED", f"order {order_id} was cancelled, and is {status}")
        await _check_cart(ledger, shopper, found)


async def _orders(ledger: Ledger, shopper: Shopper) -> dict[str, dict[str, Any]]:
    """All orders of somebody, by their ids."""
    found: dict[str, dict[str, Any]] = {}
    path = "/api/orders/user/me/?page_size=100"
    token = ""
    while True:
        page = await ledger.read(shopper.person, f"{path}&page_token={token}")
        found |= {order["id"]: order for order in page.get("orders", [])}
        if not (token := page.get("next_page_token", "")):
            return found


def _check_order(ledger: Ledger, placed: Placed, order: dict[str, Any]) -> None:
    now = Placed.read(order)
    ledger.check(now == placed, f"order {placed.id} was told as {placed}, and is {now}")


def _check_money(ledger: Ledger, cashier: Cashier, order: dict[str, Any]) -> None:
    id, payment = order["id"], order["payment_id"]
    told = cashier.accepted.get(id, "")
    ledger.check(payment == told, f"order {id} was paid by {told!r}, and says {payment!r}")
    if id in cashier.refunded:
        back = json_format.ParseDict(order["refunded_total"], money_pb2.Money())
        ledger.check(back == cashier.refunded[id], f"order {id}: a refund is not there")


async def _check_cart(ledger: Ledger, shopper: Shopper, orders: dict[str, dict[str, Any]]) -> None:
    """A cart holds everything that was put into it, but for what was bought out of it."""
    bought: Counter[str] = Counter()
    for order in orders.values():
        if order["cart_id"] and order["payment_id"]:
            bought += pieces(order["lines"])
    left = shopper.put - bought
    cart = await ledger.read(shopper.person, "/api/cart/")
    now = pieces(cart.get("items", []))
    ledger.check(
        now == left,
        f"the cart of {shopper.person.id} lacks {dict(left - now)}, exceeds {dict(now - left)}",
    )
