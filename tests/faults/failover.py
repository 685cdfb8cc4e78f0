"""The failover drill: `make failover` kills a primary under writes and promotes its standby.

Two Postgres of its own on this machine, the standby synchronous, and a whole shop that knows both.
It prints how long it took from the promotion to the first good call of each kind, and what became
of the writes that were acknowledged: none may be lost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import httpx
from rich.console import Console

from cli.database import ensure_database
from cli.postgres import Cluster, processes_in, serve
from cli.topology import LOOPBACK, free_port
from services.kit.ids import uuid7
from tests.e2e.orders import POSTAL
from tests.faults.inside import asks, audit, connected, skus
from tests.faults.traffic import Additions, Traffic, calling
from tests.shop import SHOP, command, running
from tests.visitors import Person, Shop, answered, visiting
from tools.standby import FOLLOWED, NAME, follow


@dataclass(frozen=True)
class Pair:
    """A primary that acknowledges nothing before its standby has it, and the standby."""

    primary: Cluster
    standby: Cluster

    @property
    def url(self) -> str:
        """Where the shop finds whichever of them is the primary."""
        both = f"@{LOOPBACK}:{self.primary.port},{LOOPBACK}:{self.standby.port}/"
        one = f"@{LOOPBACK}:{self.primary.port}/"
        return self.primary.url().replace(one, both) + "?target_session_attrs=primary"

    def kill_primary(self) -> None:
        """All its processes at once, as when its machine dies."""
        for pid in processes_in(self.primary.data):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def promote(self) -> float:
        """Make the standby the primary; the moment (`time.monotonic()`) from which it is."""
        connection = await asyncpg.connect(self.standby.url())
        try:
            assert await connection.fetchval("SELECT pg_promote()")
        finally:
            await connection.close()
        return time.monotonic()


@contextlib.asynccontextmanager
async def pair(*, durable: bool = True) -> AsyncIterator[Pair]:
    """Both, running, the standby up to date."""
    with _folder() as folder, contextlib.ExitStack() as stack:
        primary = Cluster(
            folder / "primary", folder / "password", free_port(), durable, settings=FOLLOWED
        )
        primary.create()
        with serve(primary, folder / "log"):
            await ensure_database(primary.url("postgres"), "shop")
            standby = follow(primary, folder / "standby")
        # Only now, or it would have waited for a standby that was not there.
        settings = FOLLOWED | {"synchronous_standby_names": NAME}
        primary = replace(primary, settings=settings)
        stack.enter_context(serve(primary, folder / "primary.log"))
        stack.enter_context(serve(standby, folder / "standby.log"))
        connection = await asyncpg.connect(primary.url("postgres"))
        try:
            async with asyncio.timeout(30):
                while not await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')"
                ):
                    await asyncio.sleep(0.05)
        finally:
            await connection.close()
        yield Pair(primary, standby)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """One that whoever runs Postgres can reach."""
    made = Path(tempfile.mkdtemp(prefix="shop-failover-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@dataclass
class Purchases:
    """Orders that are made and paid, one after the other, each under a key of its own."""

    buyer: Person
    variant: str
    made: list[str]
    paid: list[str]

    async def __call__(self) -> httpx.Response:
        """Buy once more; the answer of the last call that was made for it."""
        item = {"variant_id": self.variant, "quantity": 1}
        body = {"items": [item], "shipping_address": POSTAL}
        answer = await self.buyer.post("/api/orders/", body, idempotency_key=uuid7().hex)
        if answer.status_code != httpx.codes.CREATED:
            return answer
        id = answer.json()["id"]
        self.made.append(id)
        paying = {"order_id": id, "payment_method": "pm_card_visa"}
        answer = await self.buyer.post("/api/payment/", paying, idempotency_key=uuid7().hex)
        if answer.is_success and answer.json()["status"] == "SUCCEEDED":
            self.paid.append(id)  # by now another call may have made an order
        return answer


@dataclass(frozen=True)
class Outcome:
    """What a drill has seen."""

    promotion: float
    """Seconds from the kill until the standby was the primary."""
    first: dict[str, float]
    """Seconds from then to the end of the first good call, by kind; negative for an earlier one."""
    acknowledged: int
    lost: list[str]
    wrong: str
    """What `shop verify` says, if anything is wrong."""


async def drill(folder: Path, calls: int, *, durable: bool = True) -> Outcome:
    """Kill the primary after so many calls of each kind, and wait for as many more."""
    async with (
        pair(durable=durable) as two,
        running(folder, "--port", "0", "--demo", SHOP_DATABASE_URL=two.url) as up,
        visiting(up) as shop,
    ):
        product = await shop.new_product(stock=1_000_000)
        buyer = await shop.sign_up()
        purchases = Purchases(buyer, product["default_variant_id"], [], [])
        additions = Additions(shop)
        async with (
            calling(additions) as added,
            calling(purchases) as bought,
            calling(asks(shop)["users"], at_once=1) as users,
            calling(asks(shop)["catalog"], at_once=1) as catalog,
        ):
            kinds = {
                "add a product": added,
                "order and pay": bought,
                "read a user": users,
                "list products": catalog,
            }
            await _more(kinds, calls)
            killed = time.monotonic()
            two.kill_primary()
            promoted = await two.promote()
            await _more(kinds, calls)
        lost = await _lost(shop, additions, purchases)
        verified = await command(
            *(SHOP, "verify", "--data", up.data), env=os.environ | {"SHOP_DATABASE_URL": two.url}
        )
    return Outcome(
        promoted - killed,
        {name: each.good_after(killed)[0].ended - promoted for name, each in kinds.items()},
        len(additions.acknowledged) + len(purchases.made) + len(purchases.paid),
        lost,
        "" if verified.returncode == 0 else verified.stdout + verified.stderr,
    )


async def _more(kinds: dict[str, Traffic], calls: int) -> None:
    await asyncio.gather(*(each.more(calls, 120) for each in kinds.values()))


async def _lost(shop: Shop, additions: Additions, purchases: Purchases) -> list[str]:
    """What was acknowledged and is not there."""
    async with connected(shop) as database:
        products = await skus(database)
        assert await audit(database) == []
        made = await database.fetch('SELECT id::text FROM "order".orders')
        captured = await database.fetch(
            "SELECT order_id::text FROM payment.payments WHERE captured > 0"
        )
    orders, payments = {row[0] for row in made}, {row[0] for row in captured}
    lost = [f"the product {key}" for key in additions.acknowledged - products]
    lost += [f"the order {id}" for id in purchases.made if id not in orders]
    lost += [f"the payment of {id}" for id in purchases.paid if id not in payments]
    async with asyncio.timeout(60):  # what the outbox had to tell before the kill, it still tells
        for id in purchases.paid:
            while answered(await purchases.buyer.get(f"/api/orders/{id}/"))["status"] != "PAID":
                await asyncio.sleep(0.05)
    return lost


def main() -> None:
    parser = argparse.ArgumentParser(prog="make failover", description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=100, help="of each kind, before and after")
    parser.add_argument("--rounds", type=int, default=3)
    told = parser.parse_args()
    say = Console(highlight=False, soft_wrap=True, markup=False).print
    good = True
    for number in range(told.rounds):
        with tempfile.TemporaryDirectory(prefix="shop-failover-") as folder:
            outcome = asyncio.run(drill(Path(folder), told.calls))
        say(f"{number + 1}: the standby was the primary {outcome.promotion:.2f} s after the kill")
        for name, seconds in outcome.first.items():
            say(f"   {name}: the first good answer {seconds:+.2f} s from then")
        say(f"   {outcome.acknowledged} writes acknowledged, {len(outcome.lost)} lost")
        say("".join(f"   LOST {each}\n" for each in outcome.lost) + outcome.wrong, end="")
        good = good and not outcome.lost and not outcome.wrong
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
