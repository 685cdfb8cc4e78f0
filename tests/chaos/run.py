"""One run: a shop, its customers, the blows, and the proof."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from cli.verify import Finding
from tests.chaos import proof
from tests.chaos.bank import Bank
from tests.chaos.blows import Blow, Fist, Healed
from tests.chaos.ledger import Ledger
from tests.chaos.shoppers import Goods, Shopper
from tests.chaos.wallets import Wallet, newcomer
from tests.shop import running
from tests.visitors import Shop, new_address, visiting

PLENTY, SCARCE = 6, 4
PLENTY_STOCK, SCARCE_STOCK = 1_000_000, 60
# How much somebody does before somebody new takes their place.
DEEDS = (10, 60)
LEAVING_SHARE = 0.3
# Short, so that orders expire, and 3-D Secure steps are given up, while they are being paid.
WAITING = {"SHOP_ORDER_PAYMENT_SECONDS": "60", "SHOP_PAYMENT_ACTION_SECONDS": "10"}
# Beyond this a run hangs: what is waited for at its end is bounded, each by itself.
LONGEST_SECONDS = 600.0


@dataclass
class Outcome:
    """What came of a run."""

    ledger: Ledger
    seconds: float = 0.0
    customers: int = 0
    erased: int = 0
    orders: int = 0
    charges: int = 0
    healed: list[Healed] = field(default_factory=list)
    settled: float | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Everything that does not hold."""
        found = list(self.ledger.problems)
        found += [f"{each.blow}: never well again" for each in self.healed if each.seconds is None]
        if self.settled is None:
            found.append("what was left to be done was not done in time")
        found += [f"shop verify: {each.invariant.name}" for each in self.findings if each.rows]
        return found


async def run(
    folder: Path, blows: list[Blow], *, seconds: float, seed: int, shoppers: int, rest: float
) -> Outcome:
    """Beat a new shop in `folder` for so many seconds; `rest` more pass before it is looked at.

    `shoppers` are in the shop at the same time. Rules of `shop verify` over several services only
    look at what has been at rest for a minute.
    """
    outcome = Outcome(Ledger())
    async with (
        asyncio.timeout(seconds + rest + LONGEST_SECONDS),
        running(folder, "--port", "0", **WAITING) as up,
        visiting(up) as shop,
        contextlib.aclosing(Bank(shop.ready.stripe)) as bank,
    ):
        street = await Street.open(shop, outcome.ledger, random.Random(seed))
        fist = Fist(up, shop.ready, outcome.healed)
        began = time.monotonic()
        trouble = asyncio.create_task(bank.misbehave())
        async with asyncio.TaskGroup() as group:
            over = asyncio.Event()
            for _ in range(shoppers):
                group.create_task(street.be_served(over))
            group.create_task(fist.deal(blows))
            await asyncio.sleep(seconds)
            over.set()
        outcome.seconds = time.monotonic() - began
        trouble.cancel()
        await bank.behave()
        outcome.settled = await proof.settled(shop.ready.database_url)
        charges = await bank.charges()
        await proof.check(
            outcome.ledger, street.shoppers, shop.staff, charges, shop.ready.database_url
        )
        await asyncio.sleep(rest)
        outcome.findings = await proof.audit(up)
        outcome.customers = len(street.shoppers)
        outcome.erased = sum(shopper.erased for shopper in street.shoppers)
        outcome.orders = sum(len(shopper.orders) for shopper in street.shoppers)
        outcome.charges = sum(len(each) for each in charges.values())
    return outcome


@dataclass
class Street:
    """Where customers come from, one after the other."""

    shop: Shop
    ledger: Ledger
    chance: random.Random
    goods: Goods
    shoppers: list[Shopper] = field(default_factory=list)

    @classmethod
    async def open(cls, shop: Shop, ledger: Ledger, chance: random.Random) -> Street:
        """Goods are made before the first blow."""
        stocks = [PLENTY_STOCK] * PLENTY + [SCARCE_STOCK] * SCARCE
        ids = [(await shop.new_product(stock=stock))["id"] for stock in stocks]
        return cls(shop, ledger, chance, Goods(ids[:PLENTY], ids[PLENTY:]))

    async def be_served(self, over: asyncio.Event) -> None:
        """Customers sign up, buy, and go, until it is over."""
        while not over.is_set():
            person = await newcomer(self.ledger, self.shop.http, new_address())
            if person is None:
                continue
            chance = random.Random(self.chance.random())
            wallet = Wallet(person, self.shop.staff, self.ledger, chance)
            shopper = Shopper(person, self.goods, self.ledger, chance, wallet)
            self.shoppers.append(shopper)
            await shopper.shop(over, chance.randint(*DEEDS))
            if chance.random() < LEAVING_SHARE:
                await shopper.leave()
