"""People who fill carts, order, pay, cancel and look on, and who remember what they were told."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.ledger import PASSING, Ledger, why_not
from tests.chaos.wallets import Wallet
from tests.visitors import Person, Visitor

CART_TOKEN = "x-cart-token"
WATCH_SECONDS = 3.0
LATEST = 3
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
    wallet: Wallet
    # What was acknowledged: pieces put into the cart ever, orders, and those that were cancelled.
    put: Counter[str] = field(default_factory=Counter)
    orders: dict[str, Placed] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    erased: bool = False

    async def shop(self, over: asyncio.Event, deeds: int) -> None:
        """Buy something, then do so many things, or until it is over.

        What was begun is brought to its end.
        """
        await self.order_items()
        await self.pay()
        choice = {
            self.add: 5,
            self.merge: 2,
            self.order_cart: 2,
            self.order_items: 3,
            self.pay: 5,
            self.wallet.refund: 1,
            self.cancel: 1,
            self.watch: 1,
        }
        for _ in range(deeds):
            if over.is_set():
                return
            (deed,) = self.chance.choices(list(choice), list(choice.values()))
            await deed()
            await asyncio.sleep(self.chance.uniform(0.02, 0.2))

    async def leave(self) -> None:
        """Have oneself deleted, with everything personal."""
        # A deleted user has no session: repeated, the call is told so.
        gone = await self.ledger.write(
            self.person, "DELETE", "/api/users/me/", None, done="SESSION_ENDED"
        )
        self.erased = gone is not None

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
        merged = await self.ledger.write_perhaps_twice(
            self.person, "/api/cart/merge/", {"cart_token": token}, self.chance
        )
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

    async def pay(self) -> None:
        """Pay one of the latest orders, whether it was paid before or not."""
        if self.orders:
            await self.wallet.pay(self.chance.choice(list(self.orders)[-LATEST:]))

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
        answers = await self.ledger.write_perhaps_twice(
            self.person, "/api/orders/", what | {"shipping_address": ADDRESS}, self.chance
        )
        ids = {answer["id"] for answer in answers}
        self.ledger.check(len(ids) <= 1, f"one key made {len(ids)} orders")
        if not answers:
            return None
        placed = Placed.read(answers[0])
        self.orders.setdefault(placed.id, placed)
        return placed
