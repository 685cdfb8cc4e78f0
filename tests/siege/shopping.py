"""What is asked of a shop while something happens to it: reads of all services, keyed writes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.e2e.orders import POSTAL
from tests.faults.inside import connected
from tests.faults.replicas import insisting, new_key
from tests.faults.traffic import Ask
from tests.visitors import Person, Shop, answered, euros

STOCK = 1_000_000
ACKNOWLEDGED = ("SELECT sku FROM catalog.variants", 'SELECT id::text FROM "order".orders')


@dataclass
class Shopping:
    """Somebody with an order that is paid and a cart, and what they and the staff can ask."""

    shop: Shop
    ada: Person
    item: dict[str, Any]
    reads: dict[str, Ask]
    """By service: what it answers without needing another one."""
    made: dict[str, set[str]] = field(default_factory=lambda: {"SKUs": set(), "orders": set()})
    """What was acknowledged."""

    @classmethod
    async def begin(cls, shop: Shop) -> Shopping:
        """Sign up, fill a cart, order and pay."""
        product = await shop.new_product(stock=STOCK)
        ada = await shop.sign_up()
        item = {"variant_id": product["default_variant_id"], "quantity": 1}
        answered(await ada.post("/api/cart/items/", item))
        new = {"items": [item], "shipping_address": POSTAL}
        order = answered(await ada.post("/api/orders/", new), 201)["id"]
        paying = {"order_id": order, "payment_method": "pm_card_visa"}
        payment = answered(await ada.post("/api/payment/", paying))["id"]
        reads: dict[str, Ask] = {
            "users": lambda: ada.get("/api/users/me/"),
            "catalog": lambda: ada.get("/api/products/", page_size=1),
            "cart": lambda: ada.get("/api/cart/"),
            "order": lambda: ada.get(f"/api/orders/{order}/"),
            "payment": lambda: ada.get(f"/api/payment/{payment}/"),
        }
        return cls(shop, ada, item, reads)

    def read(self) -> Ask:
        """All reads, one after the other."""
        turns = itertools.cycle(self.reads.values())

        async def ask() -> httpx.Response:
            return await next(turns)()

        return ask

    async def add(self, key: str) -> httpx.Response:
        """Add a product, whose SKU is the key."""
        body = {"name": "A lamp", "price": euros(20), "stock": 7, "sku": key}
        answer = await self.shop.staff.post("/api/products/", body, idempotency_key=key)
        if answer.is_success:
            self.made["SKUs"].add(key)
        return answer

    async def order(self, key: str) -> httpx.Response:
        """Order a piece."""
        body = {"items": [self.item], "shipping_address": POSTAL}
        answer = await self.ada.post("/api/orders/", body, idempotency_key=key)
        if answer.is_success:
            self.made["orders"].add(answer.json()["id"])
        return answer

    def write(self, *, insist: bool) -> Ask:
        """Three products and an order in turn; repeated with their keys until done, or not."""
        turns = itertools.cycle((self.add, self.add, self.add, self.order))

        async def ask() -> httpx.Response:
            one, key = next(turns), new_key()
            return await (insisting(lambda: one(key)) if insist else one(key))

        return ask

    async def lost(self) -> set[str]:
        """What was acknowledged and is not there."""
        async with connected(self.shop) as database:
            there = {row[0] for query in ACKNOWLEDGED for row in await database.fetch(query)}
        return set().union(*self.made.values()) - there
