"""Two processes of every service behind the edge: one is killed, all are restarted, nobody notices.

That background work of two does each thing once is tested beside it: outbox (`kit/test_outbox`),
expiry (`order/test_sweeper`), payments (`payment/test_reconciler`), stock
(`catalog/test_reservations_parallel`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from services.kit.ids import uuid7
from tests.e2e.orders import POSTAL
from tests.faults import replicas
from tests.faults.inside import asks, connected, skus
from tests.faults.replicas import insisting, new_key
from tests.faults.traffic import PATIENCE_SECONDS, Additions, calling, until
from tests.sizes import size
from tests.visitors import Shop, answered

# Of each kind after a kill; `make siege` counts more of them.
READS = size(200, 50)


@pytest.fixture(scope="module")
async def doubled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """A shop with two processes of each service."""
    async with replicas.doubled(tmp_path_factory.mktemp("doubled")) as shop:
        yield shop


async def test_one_of_two_killed_is_not_noticed(doubled: Shop) -> None:
    additions = Additions(doubled)

    async def add() -> httpx.Response:
        key = new_key()
        return await insisting(lambda: additions.add(key))

    reads = asks(doubled)
    async with (
        calling(reads["users"]) as users,
        calling(reads["catalog"]) as catalog,
        calling(add) as writes,
    ):
        for service in ("catalog", "users"):
            await writes.more(20)
            await replicas.killed(doubled, service)
            await writes.more(40)
            await users.more(READS)
            await catalog.more(READS)
        await writes.more(20)
    calls = [*users.calls, *catalog.calls]
    failed = [call.reason for call in calls if not call.is_good]
    assert len(calls) > 4 * READS
    assert len(failed) <= len(calls) / 1000, failed
    assert writes.bad == []
    async with connected(doubled) as database:
        assert await skus(database) == additions.answers.keys()
    await replicas.verified(doubled)


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
    before = replicas.turns(doubled)
    async with (
        calling(reads["users"], at_once=1) as users,
        calling(reads["catalog"], at_once=1) as catalog,
        calling(Additions(doubled), at_once=1) as writes,
        calling(buy, at_once=1) as orders,
    ):
        everything = (users, catalog, writes, orders)
        for turn in before:
            for traffic in everything:
                await traffic.more(5)
            await replicas.restarted(doubled, turn)
        for traffic in everything:
            await traffic.more(5)
    assert [(call.reason, call.seconds) for traffic in everything for call in traffic.bad] == []
    assert not any(process.is_alive for turn in before for process in turn)

    async def paid() -> bool:
        listed = [answered(await ada.get(f"/api/orders/{each}/")) for each in made]
        return {order["status"] for order in listed} == {"PAID"}

    await until(paid, PATIENCE_SECONDS)
    assert len(made) > 10
    await replicas.verified(doubled)
