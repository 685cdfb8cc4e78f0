"""After the blows: is everything there that was acknowledged, and nothing else?"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import asyncpg

from cli.commands import open_databases
from cli.topology import ALL_SERVICES
from cli.verify import Finding, verify
from shop.order.v1.order_pb2 import Order
from tests.chaos.bank import Charge
from tests.chaos.ledger import Ledger
from tests.chaos.shoppers import Placed, Shopper, pieces
from tests.chaos.wallets import minor
from tests.shop import ShopUp
from tests.visitors import Person

SETTLED_WITHIN = 180.0
# Statuses in which the shop has what was paid, but for what was given back.
KEPT = {"PAID", "FULFILLING", "SHIPPED", "DELIVERED", "PARTIALLY_REFUNDED", "REFUNDED"}


async def settled(database_url: str) -> float | None:
    """Wait until nothing is left to be done: outboxes are empty, no order or payment is on its way.

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
        rest.append("EXISTS (SELECT FROM payment.payments WHERE check_time IS NOT NULL)")
        while await database.fetchval(f"SELECT {' OR '.join(rest)}"):
            if time.monotonic() - began > SETTLED_WITHIN:
                return None
            await asyncio.sleep(0.1)
    finally:
        await database.close()
    return time.monotonic() - began


async def audit(up: ShopUp) -> list[Finding]:
    """What `shop verify` finds."""
    async with open_databases(up.data) as databases:
        return await verify(databases)


async def check(
    ledger: Ledger,
    shoppers: Sequence[Shopper],
    staff: Person,
    charges: dict[str, list[Charge]],
    database_url: str,
) -> None:
    """Compare what everybody was told with what the shop answers now, and with the bank."""
    cleared = await _cleared(database_url)
    known: set[str] = set()
    for shopper in shoppers:
        found = await _orders(ledger, shopper, staff)
        known |= found.keys()
        ledger.check(
            found.keys() == shopper.orders.keys(),
            f"{len(found.keys() - shopper.orders.keys())} orders of one customer were made unasked,"
            f" {len(shopper.orders.keys() - found.keys())} are lost",
        )
        for placed in shopper.orders.values():
            if order := found.get(placed.id):
                _check_order(ledger, placed, order)
                _check_money(ledger, order, charges.get(placed.id, []))
                _check_told(ledger, shopper, order, charges.get(placed.id, []))
        for order_id in shopper.cancelled & found.keys():
            status = found[order_id]["status"]
            ledger.check(status == "CANCELLED", f"order {order_id} was cancelled, and is {status}")
        if shopper.erased:
            _check_erased(ledger, shopper, found)
        else:
            await _check_cart(ledger, shopper, found, cleared)
    ledger.check(
        charges.keys() <= known, f"the bank has charged for {charges.keys() - known}, unknown here"
    )


async def _orders(ledger: Ledger, shopper: Shopper, staff: Person) -> dict[str, dict[str, Any]]:
    """All orders of somebody, by their ids. Of who was deleted, staff still sees them."""
    found: dict[str, dict[str, Any]] = {}
    who = staff if shopper.erased else shopper.person
    path = f"/api/orders/user/{shopper.person.id}/?page_size=100"
    token = ""
    while True:
        page = await ledger.read(who, f"{path}&page_token={token}")
        found |= {order["id"]: order for order in page.get("orders", [])}
        if not (token := page.get("next_page_token", "")):
            return found


async def _cleared(database_url: str) -> set[str]:
    """The orders whose lines were taken out of a cart."""
    database = await asyncpg.connect(database_url)
    try:
        return {str(row["order_id"]) for row in await database.fetch("TABLE cart.orders")}
    finally:
        await database.close()


def _check_order(ledger: Ledger, placed: Placed, order: dict[str, Any]) -> None:
    now = Placed.read(order)
    ledger.check(now == placed, f"order {placed.id} was told as {placed}, and is {now}")


def _check_money(ledger: Ledger, order: dict[str, Any], charges: list[Charge]) -> None:
    """The customer paid once or not at all, and the order says so."""
    id, status = order["id"], order["status"]
    ledger.check(len(charges) <= 1, f"order {id} was charged {len(charges)} times: {charges}")
    kept = sum(charge.kept for charge in charges)
    due = minor(order["total"]) - minor(order["refunded_total"]) if status in KEPT else 0
    ledger.check(kept == due, f"order {id} is {status}: {due} is due, the bank says {charges}")
    if payment := order["payment_id"]:
        paid = [charge for charge in charges if charge.payment_id == payment]
        ledger.check(len(paid) == 1, f"order {id} was paid by {payment}, the bank says {charges}")
        back, told = sum(charge.returned for charge in paid), minor(order["refunded_total"])
        ledger.check(back == told, f"of order {id} {back} was given back, and it says {told}")
    else:
        ledger.check(status not in KEPT, f"order {id} is {status} without a payment")


def _check_told(
    ledger: Ledger, shopper: Shopper, order: dict[str, Any], charges: list[Charge]
) -> None:
    """What was acknowledged of an order's money is there."""
    id, wallet = order["id"], shopper.wallet
    if payment := wallet.paid.get(id):
        ledger.check(
            [charge.payment_id for charge in charges] == [payment],
            f"order {id} was told to be paid by {payment}, the bank says {charges}",
        )
        ledger.check(
            order["payment_id"] == payment or order["status"] == "CANCELLED",
            f"order {id} was told to be paid by {payment}, and says {order['payment_id']!r}",
        )
    back = sum(charge.returned for charge in charges)
    ledger.check(
        back >= wallet.refunded[id],
        f"of order {id} {wallet.refunded[id]} was told to be given back, the bank says {charges}",
    )


def _check_erased(ledger: Ledger, shopper: Shopper, orders: dict[str, dict[str, Any]]) -> None:
    """Nothing personal is left at the orders of somebody who was deleted."""
    for order in orders.values():
        address = order["shipping_address"]
        left = order["email"] or order["note"] or address["address_lines"] or address["recipients"]
        ledger.check(not left, f"order {order['id']} of {shopper.person.id} still tells {left!r}")


async def _check_cart(
    ledger: Ledger, shopper: Shopper, orders: dict[str, dict[str, Any]], cleared: set[str]
) -> None:
    """A cart holds everything that was put into it, but for what was bought out of it."""
    bought: Counter[str] = Counter()
    for order in orders.values():
        # What was paid and cancelled at once may have stayed in the cart, or not.
        if order["cart_id"] and (
            order["status"] in KEPT or (order["payment_id"] and order["id"] in cleared)
        ):
            bought += pieces(order["lines"])
    left = shopper.put - bought
    cart = await ledger.read(shopper.person, "/api/cart/")
    now = pieces(cart.get("items", []))
    ledger.check(
        now == left,
        f"the cart of {shopper.person.id} lacks {dict(left - now)}, exceeds {dict(now - left)}",
    )
