"""What follows an order, while relays die and much waits: everything has its effect, once (S8).

`SHOP_TEST_ROUNDS=20` kills a relay so often, `SHOP_TEST_BACKLOG=10000` has so much wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from cli.data_folder import DataFolder
from cli.database import databases_of
from cli.forks import Forked
from cli.probes import is_serving
from cli.topology import Address, free_port
from services.kit.ids import uuid7
from tests.e2e.orders import POSTAL
from tests.faults.inside import connected
from tests.faults.traffic import until
from tests.forked import Nursery, end
from tests.sizes import promised
from tests.visitors import Person, Shop, answered, euros

ROUNDS = int(os.environ.get("SHOP_TEST_ROUNDS", "1"))
BACKLOG = int(os.environ.get("SHOP_TEST_BACKLOG", "500"))
# "10k backlog within 30 s", and time for the first look.
ROWS_PER_SECOND, FIRST_LOOK_SECONDS = 10_000 / 30, 3.0
LAG_SECONDS = 2.0
# What a relay that was killed holds is taken over after 15 s.
PATIENCE_SECONDS = 45.0
ORDERS_A_ROUND = 20


@contextlib.asynccontextmanager
async def another(nursery: Nursery, shop: Shop) -> AsyncIterator[Forked]:
    """A second order service on the same database; killed at the end."""
    address = Address("127.0.0.1", free_port())
    environment = {f"SHOP_{name.upper()}_ADDRESS": at for name, at in shop.ready.services.items()}
    environment |= {
        "SHOP_ORDER_DATABASE_URL": databases_of(shop.ready.database_url).services["order"],
        "SHOP_SERVICE_SECRET_FILE": str(DataFolder(shop.up.data).service_secret),
        "SHOP_ORDER_MAILBOX": shop.ready.mailbox,
        "SHOP_PUBLIC_URL": shop.ready.edge,
        "SHOP_ORDER_LISTEN": str(address),
        "SHOP_ORDER_METRICS_LISTEN": f"127.0.0.1:{free_port()}",
    }
    process = await nursery.fork("order", environment)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await is_serving(address):
                assert process.returncode is None
                await asyncio.sleep(0.05)
        yield process
    finally:
        await end(process)


async def waiting(shop: Shop) -> int:
    """How much has still to be told."""
    async with connected(shop) as database:
        return int(await database.fetchval('SELECT count(*) FROM "order".outbox'))


async def told(shop: Shop) -> bool:
    await asyncio.sleep(0.1)  # each look is a connection
    return await waiting(shop) == 0


async def buy(who: Person, product: dict[str, Any]) -> None:
    """Order something that costs nothing: it is paid at once, and all follows that follows.

    Who is told to try again does so, with the same key.
    """
    body = {"items": [{"product_id": product["id"], "quantity": 1}], "shipping_address": POSTAL}
    key = uuid7().hex
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (answer := await who.post("/api/orders/", body, idempotency_key=key)).is_server_error:
            await asyncio.sleep(0.1)
    answered(answer, 201)


async def taken(shop: Shop, product: dict[str, Any]) -> list[float]:
    """Seconds from an order's payment until its stock was taken, for each piece that was."""
    async with connected(shop) as database:
        rows = await database.fetch(
            """
            SELECT m.change, extract(epoch FROM m.create_time - e.create_time)::float AS lag
            FROM catalog.stock_movements m
            JOIN "order".order_events e ON e.order_id = m.order_id AND e.to_status = 3
            JOIN catalog.variants v ON v.id = m.variant_id WHERE v.product_id = $1
            """,
            product["id"],
        )
    assert {row["change"] for row in rows} == {-1}
    return sorted(row["lag"] for row in rows)


async def test_relays_that_are_killed_lose_and_double_nothing(nursery: Nursery, shop: Shop) -> None:
    ada, product = await shop.sign_up(), await shop.new_product(price=euros(0), stock=10_000)
    for _ in range(ROUNDS):
        async with another(nursery, shop) as relay:
            first, *others = (asyncio.create_task(buy(ada, product)) for _ in range(ORDERS_A_ROUND))
            await first
            relay.send_signal(signal.SIGKILL)
            await asyncio.gather(*others)
    await until(lambda: told(shop), PATIENCE_SECONDS)
    assert len(await taken(shop, product)) == ROUNDS * ORDERS_A_ROUND
    after = answered(await shop.staff.get(f"/api/products/{product['id']}/"))["variants"][0]
    assert (after["on_hand"], after["reserved"]) == (10_000 - ROUNDS * ORDERS_A_ROUND, 0)
    mails = [path for path in Path(shop.ready.mailbox).iterdir() if ada.email in path.read_text()]
    assert len([path for path in mails if "Your order" in path.read_text()]) == (
        ROUNDS * ORDERS_A_ROUND
    )


async def test_two_relays_are_prompt_and_do_nothing_twice(nursery: Nursery, shop: Shop) -> None:
    ada, product = await shop.sign_up(), await shop.new_product(price=euros(0), stock=10_000)
    async with another(nursery, shop):
        for _ in range(10):
            await asyncio.gather(*(buy(ada, product) for _ in range(10)))
        await until(lambda: told(shop), PATIENCE_SECONDS)
    lags = await taken(shop, product)
    assert len(lags) == 100
    assert lags[98] < promised(LAG_SECONDS)


async def test_a_backlog_is_worked_off(shop: Shop) -> None:
    async with connected(shop) as database:
        await database.execute(
            """
            INSERT INTO "order".outbox (id, topic, payload)
            SELECT gen_random_uuid(), 'release_stock', uuid_send(gen_random_uuid())
            FROM generate_series(1, $1::int)
            """,
            BACKLOG,
        )
    began = time.monotonic()
    most = FIRST_LOOK_SECONDS + BACKLOG / ROWS_PER_SECOND
    await until(lambda: told(shop), PATIENCE_SECONDS)
    assert time.monotonic() - began < promised(most)
    print(f"{BACKLOG} in {time.monotonic() - began:.1f} s")  # noqa: T201 - for those who measure
