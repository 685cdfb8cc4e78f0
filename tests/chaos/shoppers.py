"""People who fill carts, order, cancel and look on, and who remember what they were told."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from services.kit.ids import uuid7
from tests.chaos.ledger import PASSING, Ledger, why_not
from tests.visitors import Person, Visitor

CART_TOKEN = "x-cart-token"
WATCH_SECONDS = 3.0
ADDRESS = {
    "region_code": "DE",
    "postal_code": "10115",
    "locality": "Berlin",
    "recipients": ["Ada"],
    "address_lines": ["Hauptstraße 1"],
}


@dataclass(frozen=True)
class Goods:
    """Ids of products: of `plenty` there is enough for everybody, of `scarce` there is not."""

    plenty: Sequence[str]
    scarce: Sequence[str]


@dataclass
class Placed:
    """An order as it was acknowledged."""

    id: str
    lines: Counter[str]
    total: dict[str, Any]

    @classmethod
    def read(cls, order: dict[str, Any]) -> Placed:
        """An order as the API has it."""
        return cls(order["id"], pieces(order["lines"]), order["total"])


def pieces(lines: Sequence[dict[str, Any]]) -> Counter[str]:
    """How many of each product there are in the lines of an order or the items of a cart."""
    found: Counter[str] = Counter()
    for line in lines:
        found[line["product_id"]] += line["quantity"]
    return found


@dataclass
class Shopper:
    """Does one thing after the other with a cart and orders of their own."""

    person: Person
    goods: Goods
    ledger: Ledger
    chance: random.Random
    # Takes an order that could be paid.
    pay: Callable[[Placed], None]
    # What was acknowledged: pieces put into the cart ever, orders, and those that were cancelled.
    put: Counter[str] = field(default_factory=Counter)
    orders: dict[str, Placed] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)

    async def shop(self, over: asyncio.Event) -> None:
        """Go on until it is over. What was begun is brought to its end."""
        deeds = (self.add, self.merge, self.order_cart, self.order_items, self.cancel, self.watch)
        while not over.is_set():
            (deed,) = self.chance.choices(deeds, (5, 2, 2, 3, 1, 1))
            await deed()
            await asyncio.sleep(self.chance.uniform(0.02, 0.2))

    async def add(self) -> None:
        """Put something into the cart."""
        item = self._item(self.goods.plenty)
        if await self.ledger.write(self.person, "POST", "/api/cart/items/", item) is not None:
            self.put[item["product_id"]] += item["quantity"]

    async def merge(self) -> None:
        """Fill a cart as a guest, and take it along; now and then twice at the same time."""
        guest, held = Visitor(self.person.http), Counter[str]()
        token = ""
        for _ in range(2):
            item = self._item(self.goods.plenty)
            headers = {CART_TOKEN: token} if token else {}
            cart = await self.ledger.write(guest, "POST", "/api/cart/items/", item, headers=headers)
            if cart is None:
                continue
            held[item["product_id"]] += item["quantity"]
            token = token or cart["cart_token"]
        if not token:
            return
        merged = await self._perhaps_twice("/api/cart/merge/", {"cart_token": token})
        if merged:
            self.put += held

    async def order_cart(self) -> None:
        """Order what is in the cart."""
        await self._order({})

    async def order_items(self) -> None:
        """Order something of which there is little, with something else."""
        items = [self._item(self.goods.scarce), self._item(self.goods.plenty)]
        placed = await self._order({"items": items})
        if placed is not None:
            self.ledger.check(
                placed.lines == pieces(items), f"order {placed.id} is not what was asked for"
            )

    async def cancel(self) -> None:
        """Cancel an order."""
        if not self.orders:
            return
        order_id = self.chance.choice(sorted(self.orders))
        path = f"/api/orders/{order_id}/cancel/"
        if await self.ledger.write(self.person, "POST", path, {}) is not None:
            self.cancelled.add(order_id)

    async def watch(self) -> None:
        """Look on for a moment: the events come one after the other, from the first on."""
        if not self.orders:
            return
        order_id = self.chance.choice(sorted(self.orders))
        seen: list[int] = []
        signed = {"authorization": f"Bearer {self.person.token}"}
        try:
            async with (
                asyncio.timeout(WATCH_SECONDS),
                self.person.http.stream(
                    "GET", f"/api/orders/{order_id}/watch/", headers=signed
                ) as answer,
            ):
                if not answer.is_success:
                    await answer.aread()
                    refusal = why_not(answer)
                    self.ledger.note(refusal)
                    self.ledger.check(
                        refusal in PASSING | {"TOKEN_EXPIRED"},
                        f"watching order {order_id} was answered with {refusal}",
                    )
                    return
                self.ledger.note("")
                async for line in answer.aiter_lines():
                    message = json.loads(line[5:]) if line.startswith("data:") else {}
                    if event := message.get("event"):
                        seen.append(event["sequence"])
        except (TimeoutError, httpx.TransportError):
            pass
        self.ledger.check(
            seen == list(range(1, len(seen) + 1)), f"order {order_id} was told as {seen}"
        )

    def _item(self, products: Sequence[str]) -> dict[str, Any]:
        return {"product_id": self.chance.choice(products), "quantity": self.chance.randint(1, 3)}

    async def _order(self, what: dict[str, Any]) -> Placed | None:
        answers = await self._perhaps_twice("/api/orders/", what | {"shipping_address": ADDRESS})
        ids = {answer["id"] for answer in answers}
        self.ledger.check(len(ids) <= 1, f"one key made {len(ids)} orders")
        if not answers:
            return None
        placed = Placed.read(answers[0])
        if placed.id not in self.orders:
            self.orders[placed.id] = placed
            self.pay(placed)
        return placed

    async def _perhaps_twice(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Answers to a write that is sent once, or, with one key, twice at the same time."""
        key, times = uuid7().hex, 2 if self.chance.random() < 0.2 else 1
        answers = await asyncio.gather(
            *(self.ledger.write(self.person, "POST", path, body, key=key) for _ in range(times))
        )
        return [answer for answer in answers if answer is not None]
