"""Nothing is killed, but something does not go on: every caller gets an answer in time (E3, E9)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import grpc
import httpx
import pytest
from google.rpc import code_pb2

from services.kit.settings import ServiceSettings
from shop.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from tests.faults.inside import asks, connected, part
from tests.faults.traffic import PATIENCE_SECONDS, Call, calling, until
from tests.running import refusal_of
from tests.sizes import promised
from tests.visitors import Shop, answered

# What Envoy gives a call, and what the promise allows.
DEADLINE, PROMISED = 4.0, 5.0
# More than there are connections, fewer than the edge lets in.
PARALLEL = 60


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Processes stand still during the block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextlib.asynccontextmanager
async def locked(shop: Shop, product: dict[str, Any]) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else holds the row of a product during the block."""
    async with connected(shop) as database, database.transaction():
        await database.execute(
            "SELECT FROM catalog.products WHERE id = $1 FOR UPDATE", product["id"]
        )
        yield database


async def timed(ask: Any) -> Call:
    """One call."""
    began = time.monotonic()
    answer = await ask
    return Call(began, time.monotonic(), answer)


async def test_a_service_that_stands_still(shop: Shop) -> None:
    catalog = part(shop, "services.catalog")
    async with calling(asks(shop)["users"]) as others:
        with stopped(catalog.pid):
            stub = catalog_pb2_grpc.CatalogServiceStub(shop.channel)
            rest = asyncio.create_task(timed(asks(shop)["catalog"]()))
            began = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ListProducts(catalog_pb2.ListProductsRequest(page_size=1))
            assert time.monotonic() - began < promised(PROMISED)
            held_up = await rest
        await until(lambda: asks_well(shop, "catalog"), PATIENCE_SECONDS)
    assert caught.value.code() in (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE,
    )
    assert held_up.reason in ("DEADLINE_EXCEEDED", "DEPENDENCY_UNAVAILABLE")
    assert held_up.seconds < promised(PROMISED)
    assert others.harmed == []
    assert part(shop, "services.catalog") == catalog  # and nobody took it for dead


async def asks_well(shop: Shop, service: str) -> bool:
    """Whether a service answers as it should."""
    return (await asks(shop)[service]()).is_success


async def test_a_database_that_stands_still(shop: Shop) -> None:
    async with connected(shop) as database:
        backends = await database.fetch(
            "SELECT pid FROM pg_stat_activity WHERE usename = 'shop_catalog'"
        )
        with stopped(*(row["pid"] for row in backends)):
            held_up = await timed(asks(shop)["catalog"]())
            assert (await asks(shop)["users"]()).is_success
        assert held_up.answer is not None
        assert held_up.answer.status_code == httpx.codes.GATEWAY_TIMEOUT
        assert held_up.answer.json()["code"] == code_pb2.DEADLINE_EXCEEDED
        assert held_up.seconds < promised(PROMISED)
        await until(lambda: asks_well(shop, "catalog"), PATIENCE_SECONDS)
        await until(lambda: nothing_open(database), PATIENCE_SECONDS)


async def nothing_open(database: asyncpg.Connection) -> bool:
    """Whether no service has a transaction that somebody left open, or still works on one."""
    return not await database.fetchval(
        "SELECT EXISTS (SELECT FROM pg_stat_activity"
        " WHERE usename LIKE 'shop\\_%' AND state <> 'idle')"
    )


async def test_a_row_that_somebody_else_holds(shop: Shop) -> None:
    product = await shop.new_product()
    path = f"/api/products/{product['id']}/"
    async with locked(shop, product):
        held_up = await timed(shop.staff.put(path, {"name": "Another lamp"}))
        assert held_up.reason == "TRANSACTION_CONFLICT"
        assert held_up.seconds < promised(2)
        answered(await shop.nobody.get(path))  # readers do not wait
    answered(await shop.staff.put(path, {"name": "Another lamp"}))


async def test_a_caller_who_waits_no_longer_is_not_worked_for(shop: Shop) -> None:
    product = await shop.new_product()
    stub = catalog_pb2_grpc.CatalogServiceStub(shop.channel)
    request = catalog_pb2.UpdateProductRequest(id=product["id"], name="Another lamp")
    signed = (("authorization", f"Bearer {shop.staff.token}"),)
    async with locked(shop, product) as database:
        began = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.UpdateProduct(request, metadata=signed, timeout=0.3)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - began < promised(0.35)
        # Its transaction is given up, too: the lock would be waited for a whole second.
        await until(lambda: nothing_open(database), promised(0.5))
    assert answered(await shop.nobody.get(f"/api/products/{product['id']}/"))["name"] == "A lamp"


async def test_a_caller_who_says_how_long_they_wait_is_told_in_time(shop: Shop) -> None:
    product = await shop.new_product()
    path, wait = f"/api/products/{product['id']}/", {"grpc-timeout": "400m"}
    said: list[str] = []
    async with locked(shop, product):
        while said.count("DEADLINE_EXCEEDED") < 5 and len(said) < 50:
            call = await timed(shop.staff.call("PUT", path, {"name": "Another lamp"}, headers=wait))
            assert call.seconds < promised(0.5)
            assert call.answer is not None
            assert call.answer.status_code == httpx.codes.GATEWAY_TIMEOUT
            # A service that this machine kept from its work is too late for words of its own.
            said.append(call.reason if call.answer.json()["details"] else "too late")
    assert said.count("DEADLINE_EXCEEDED") == 5


async def test_more_calls_than_there_are_connections(shop: Shop) -> None:
    product = await shop.new_product()
    before = len(shop.up.events("catalog"))
    async with connected(shop) as database, calling(asks(shop)["users"]) as others:
        async with locked(shop, product):
            many = asyncio.create_task(rename(shop, product["id"], PARALLEL))
            await until(lambda: waiting_for_locks(database), PATIENCE_SECONDS)
            used = await database.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'shop\\_%'"
            )
            refusals = await many
        again = time.monotonic()
        path = f"/api/products/{product['id']}/"
        answered(await shop.staff.put(path, {"name": "Another lamp"}))
        assert time.monotonic() - again < promised(1)
        most = int(await database.fetchval("SHOW max_connections"))
    reasons = {reason for reason, _ in refusals}
    assert reasons <= {"OVERLOADED", "TRANSACTION_CONFLICT", "DEADLINE_EXCEEDED"}
    overloaded = [seconds for reason, seconds in refusals if reason == "OVERLOADED"]
    assert len(overloaded) > PARALLEL / 2
    assert max(overloaded) < promised(2.5)
    assert max(seconds for _, seconds in refusals) < promised(PROMISED)
    assert others.harmed == []

    # That is as the callers see it, who share this machine. By the service's own clock:
    logged: list[float] = []

    def all_logged() -> bool:
        events = shop.up.events("catalog")[before:]
        logged[:] = [event["ms"] for event in events if event.get("reason") == "OVERLOADED"]
        return len(logged) == len(overloaded)

    await until(all_logged, PATIENCE_SECONDS)
    assert max(logged) < promised(2) * 1000

    # Whatever they do, services leave connections for those who look after the database.
    each = ServiceSettings.described()["database_connections"].default
    assert used <= len(shop.ready.services) * (each + 3) <= most - 15


async def waiting_for_locks(database: asyncpg.Connection) -> bool:
    """Whether all connections of a service wait for locks."""
    count = await database.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    )
    return bool(count == ServiceSettings.described()["database_connections"].default)


async def rename(shop: Shop, product_id: str, times: int) -> list[tuple[str, float]]:
    """Rename a product so many times at once; why that was refused, and after how long."""
    signed = (("authorization", f"Bearer {shop.staff.token}"),)

    async def once(stub: Any, number: int) -> tuple[str, float]:
        began = time.monotonic()
        request = catalog_pb2.UpdateProductRequest(id=product_id, name=f"{number}")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.UpdateProduct(request, metadata=signed)
        return refusal_of(caught.value).reason, time.monotonic() - began

    async with contextlib.AsyncExitStack() as stack:
        stubs = []
        for _ in range(4):  # Envoy takes 128 calls on one connection
            channel = grpc.aio.insecure_channel(
                shop.ready.edge.removeprefix("http://"),
                options=[("grpc.use_local_subchannel_pool", 1)],
            )
            await stack.enter_async_context(channel)
            stubs.append(catalog_pb2_grpc.CatalogServiceStub(channel))
        return await asyncio.gather(*(once(stubs[n % 4], n) for n in range(times)))
