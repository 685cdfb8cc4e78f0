"""Two processes of every service behind the edge: one is killed, all are restarted, nobody notices.

That background work of two does each thing once is tested beside it: outbox (`kit/test_outbox`),
expiry (`order/test_sweeper`), payments (`payment/test_reconciler`), stock
(`catalog/test_reservations_parallel`).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import httpx
import pytest

from cli.probes import is_serving
from cli.topology import SERVICES, Address
from services.kit.ids import uuid7
from tests.e2e.orders import POSTAL
from tests.faults.inside import asks, audit, connected, skus
from tests.faults.traffic import Additions, calling, promised, until
from tests.shop import SHOP, Process, command, running
from tests.visitors import Shop, answered, visiting

REPLICAS = 2
# Of a keyed call: whoever repeats it like that has it done, once.
ATTEMPTS = 5


@pytest.fixture(scope="module")
async def doubled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """A shop with two processes of each service."""
    folder = tmp_path_factory.mktemp("doubled")
    more = ("--port", "0", "--replicas", str(REPLICAS))
    async with running(folder, *more) as up, visiting(up) as shop:
        yield shop


def workers(shop: Shop, service: str) -> list[Process]:
    """The processes of a service."""
    return [each for each in shop.up.kept() if f"services.{service} " in f"{each.command} "]


async def whole(shop: Shop, *services: str) -> None:
    """Wait until all processes of these services are there, and ready."""
    places = [
        Address(*_parts(at))
        for name, at in shop.ready.services.items()
        if name.partition("-")[0] in services
    ]
    assert len(places) == REPLICAS * len(services)

    async def ready() -> bool:
        return all([await is_serving(place) for place in places])

    await until(ready, promised(15))


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


async def verified(shop: Shop) -> None:
    """Whatever happened, the data is as it has to be."""
    said = await command(SHOP, "verify", "--data", shop.up.data)
    assert said.returncode == 0, said.stdout + said.stderr
    async with connected(shop) as database:
        assert await audit(database) == []


class Keyed:
    """Additions whose calls are repeated with their key, as clients do."""

    def __init__(self, shop: Shop) -> None:
        self.additions = Additions(shop)

    async def __call__(self) -> httpx.Response:
        """Add the next one, for sure."""
        key = f"KEY-{uuid7().hex}"
        for attempt in range(ATTEMPTS):
            with contextlib.suppress(httpx.TransportError):
                answer = await self.additions.add(key)
                if answer.is_success:
                    return answer
            await asyncio.sleep(0.1 * 2**attempt)
        return answer


async def test_one_of_two_killed_is_not_noticed(doubled: Shop) -> None:
    keyed = Keyed(doubled)
    reads = asks(doubled)
    async with (
        calling(reads["users"]) as users,
        calling(reads["catalog"]) as catalog,
        calling(keyed) as writes,
    ):
        for service in ("catalog", "users"):
            await writes.more(20, 30)
            victim, other = workers(doubled, service)
            victim.send(signal.SIGKILL)
            await writes.more(40, 60)
            await users.more(200, 60)
            await catalog.more(200, 60)
            await until(lambda: len(workers(doubled, service)) == REPLICAS, promised(15))  # noqa: B023
            await whole(doubled, service)
            assert other in workers(doubled, service)
        await writes.more(20, 30)
    calls = [*users.calls, *catalog.calls]
    failed = [call.reason for call in calls if not call.is_good]
    assert len(calls) > 800
    assert len(failed) <= len(calls) / 1000, failed
    assert writes.bad == []
    async with connected(doubled) as database:
        assert await skus(database) == keyed.additions.answers.keys()
    await verified(doubled)


async def test_all_restarted_in_turn_no_call_fails(doubled: Shop) -> None:
    await doubled.renew()
    product = await doubled.new_product(stock=100_000)
    ada = await doubled.sign_up()
    item = {"variant_id": product["default_variant_id"], "quantity": 1}
    made: list[str] = []

    async def buy() -> httpx.Response:
        body = {"items": [item], "shipping_address": POSTAL}
        answer = await ada.post("/api/orders/", body, idempotency_key=uuid7().hex)
        if not answer.is_success:
            return answer
        made.append(order := answered(answer, 201)["id"])
        paying = {"order_id": order, "payment_method": "pm_card_visa"}
        return await ada.post("/api/payment/", paying)

    reads = asks(doubled)
    before = {service: workers(doubled, service) for service in SERVICES}
    async with (
        calling(reads["users"], at_once=1) as users,
        calling(reads["catalog"], at_once=1) as catalog,
        calling(Additions(doubled), at_once=1) as writes,
        calling(buy, at_once=1) as orders,
    ):
        everything = (users, catalog, writes, orders)
        for turn in range(REPLICAS):
            for traffic in everything:
                await traffic.more(5, 30)
            for service in SERVICES:
                before[service][turn].send(signal.SIGTERM)

            def replaced(turn: int = turn) -> bool:
                ended = not any(old[turn].is_alive for old in before.values())
                return ended and all(len(workers(doubled, each)) == REPLICAS for each in SERVICES)

            await until(replaced, promised(30))
            await whole(doubled, *SERVICES)
        for traffic in everything:
            await traffic.more(5, 30)
    assert [(call.reason, call.seconds) for traffic in everything for call in traffic.bad] == []
    now = {process.pid for service in SERVICES for process in workers(doubled, service)}
    assert not now & {process.pid for old in before.values() for process in old}

    async def paid() -> bool:
        listed = [answered(await ada.get(f"/api/orders/{each}/")) for each in made]
        return {order["status"] for order in listed} == {"PAID"}

    await until(paid, 30)
    assert len(made) > 10
    await verified(doubled)
