"""One run: a shop, its customers, the blows, and the proof."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from cli.data_folder import DataFolder
from cli.verify import Finding
from services.kit import auth
from shop.order.v1 import settlement_pb2_grpc
from tests.chaos import proof
from tests.chaos.blows import Blow, Fist, Healed
from tests.chaos.ledger import Ledger
from tests.chaos.settling import WORKERS, Cashier
from tests.chaos.shoppers import Goods, Shopper
from tests.shop import running
from tests.visitors import Shop, visiting

PLENTY, SCARCE = 6, 4
PLENTY_STOCK, SCARCE_STOCK = 1_000_000, 60
# Beyond this a run hangs: what is waited for at its end is bounded, each by itself.
LONGEST_SECONDS = 600.0


@dataclass
class Outcome:
    """What came of a run."""

    ledger: Ledger
    seconds: float = 0.0
    orders: int = 0
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

    Rules of `shop verify` over several services only look at what has been at rest for a minute.
    """
    chance = random.Random(seed)
    outcome = Outcome(Ledger())
    async with (
        asyncio.timeout(seconds + rest + LONGEST_SECONDS),
        running(folder, "--port", "0") as up,
        visiting(up) as shop,
        grpc.aio.insecure_channel(shop.ready.services["order"]) as channel,
    ):
        cashier = Cashier(
            settlement_pb2_grpc.SettlementServiceStub(channel),
            auth.ServiceCredential("payment", DataFolder(up.data).service_secret.read_text()),
            outcome.ledger,
            random.Random(chance.random()),
        )
        people = await _open(shop, cashier, chance, shoppers)
        fist = Fist(up, shop.ready, outcome.healed)
        began = time.monotonic()
        async with _working(cashier):
            over = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                for shopper in people:
                    group.create_task(shopper.shop(over))
                group.create_task(fist.deal(blows))
                await asyncio.sleep(seconds)
                over.set()
            await cashier.waiting.join()
        outcome.seconds = time.monotonic() - began
        outcome.settled = await proof.settled(shop.ready.database_url)
        await proof.check(outcome.ledger, people, cashier)
        await asyncio.sleep(rest)
        outcome.findings = await proof.audit(up)
        outcome.orders = sum(len(shopper.orders) for shopper in people)
    return outcome


async def _open(shop: Shop, cashier: Cashier, chance: random.Random, count: int) -> list[Shopper]:
    """Goods and customers, made before the first blow."""
    stocks = [PLENTY_STOCK] * PLENTY + [SCARCE_STOCK] * SCARCE
    ids = [(await shop.new_product(stock=stock))["id"] for stock in stocks]
    goods = Goods(ids[:PLENTY], ids[PLENTY:])
    return [
        Shopper(
            await shop.sign_up(),
            goods,
            cashier.ledger,
            random.Random(chance.random()),
            cashier.waiting.put_nowait,
        )
        for _ in range(count)
    ]


@contextlib.asynccontextmanager
async def _working(cashier: Cashier) -> AsyncIterator[None]:
    """The cashier works during the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(cashier.work()) for _ in range(WORKERS)]
        yield
        for task in tasks:
            task.cancel()
