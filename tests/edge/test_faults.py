"""When something is slow, broken, stuck or gone."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from cli import edge
from cli.topology import Address
from tests.edge.conftest import PATIENCE_SECONDS, Shop, running
from tests.edge.refused import assert_refused, grpc_refused
from tests.kit.waiting import until
from tests.sizes import promised

PRODUCT = "/shop.catalog.v1.CatalogService/GetProduct"


class TestStuckHandlers:
    """Promise E3, as far as the edge keeps it."""

    async def test_end_as_504_and_are_cancelled(self, shop: Shop) -> None:
        ended: list[float] = []

        async def stuck(_: Any, __: Any) -> None:
            try:
                await asyncio.sleep(30)
            finally:
                ended.append(time.monotonic())

        shop.catalog.answers["GetProduct"] = stuck
        began = time.monotonic()
        rest = asyncio.create_task(shop.rest("GET", "/api/products/7"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await shop.grpc(PRODUCT)
        answer = await rest
        seconds = time.monotonic() - began
        # Edge and service notice at the same time; whoever is first says it.
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert (answer.status_code, answer.json()["code"]) == (504, 4)
        await until(lambda: len(ended) == 2)
        # Within 5 s, and long before the handlers would have ended by themselves.
        late = max(ended) - began
        assert 3.5 < seconds < promised(5)
        assert late < promised(5)


@pytest.fixture(scope="module")
async def own_shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """A shop whose services may be stopped."""
    async with running(tmp_path_factory.mktemp("faults")) as shop:
        yield shop


class TestServicesDown:
    async def test_only_their_own_routes_fail_and_at_once(self, own_shop: Shop) -> None:
        """Promise E10, and the way back."""
        shop = own_shop
        await shop.catalog.stop()
        for _ in range(5):
            began = time.monotonic()
            answer = await shop.rest("GET", "/api/products/7")
            body = assert_refused(answer, 503, 14, "DEPENDENCY_UNAVAILABLE")
            assert body["details"][1]["retry_delay"] == "1s"
            assert answer.headers["retry-after"] == "1"
            with grpc_refused(grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE"):
                await shop.grpc(PRODUCT)
            assert time.monotonic() - began < promised(1)
            users = await shop.rest("GET", "/api/users/7", headers=shop.signed_in)
            assert users.status_code == httpx.codes.OK
            await asyncio.sleep(0.5)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (failed := _logged(shop, "/api/products/7")):
                await asyncio.sleep(0.1)
        assert {line["status"] for line in failed} == {503}
        assert _logged(shop, "/api/users/7") == []
        await shop.catalog.start(shop.edge.services["catalog"][0].port)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await shop.rest("GET", "/api/products/7")).status_code != httpx.codes.OK:
                await asyncio.sleep(0.05)


def _logged(shop: Shop, path: str) -> list[dict[str, Any]]:
    lines = [line for line in shop.log.read_text().splitlines() if line.startswith("{")]
    return [entry for entry in map(json.loads, lines) if entry["path"] == path]


class TestRetries:
    @staticmethod
    def _fail_once(shop: Shop, method: str) -> list[int]:
        tries: list[int] = []

        async def fail_once(_: Any, context: Any) -> None:
            tries.append(1)
            if len(tries) == 1:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

        shop.catalog.answers[method] = fail_once
        return tries

    async def test_reads_are_repeated(self, shop: Shop) -> None:
        tries = self._fail_once(shop, "GetProduct")
        assert (await shop.rest("GET", "/api/products/7")).status_code == httpx.codes.OK
        assert len(tries) == 2

    async def test_changes_are_not(self, shop: Shop) -> None:
        tries = self._fail_once(shop, "CreateProduct")
        answer = await shop.rest("POST", "/api/products", json={}, headers=shop.signed_in)
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert len(tries) == 1

    async def test_other_errors_are_not(self, shop: Shop) -> None:
        tries = []

        async def fail(_: Any, context: Any) -> None:
            tries.append(1)
            await context.abort(grpc.StatusCode.INTERNAL, "broken")

        shop.catalog.answers["GetProduct"] = fail
        assert (await shop.rest("GET", "/api/products/7")).status_code == 500
        assert len(tries) == 1


class TestOverload:
    @pytest.mark.parametrize(
        ("verb", "path", "method", "most"),
        [
            ("GET", "/api/products/7", "GetProduct", 240),
            ("POST", "/api/products", "CreateProduct", 64),
        ],
    )
    async def test_what_is_too_much_is_refused_at_once(
        self, shop: Shop, verb: str, path: str, method: str, most: int
    ) -> None:
        """Promise E5: of reads and of changes, each by itself."""
        busy = asyncio.Event()

        async def wait(_: Any, __: Any) -> None:
            await busy.wait()

        shop.catalog.answers[method] = wait
        told: dict[str, Any] = {"headers": shop.signed_in}
        if verb == "POST":
            told["json"] = {}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits) as http, asyncio.timeout(PATIENCE_SECONDS):
            shop.http, usual = http, shop.http
            try:
                calls = [asyncio.create_task(shop.rest(verb, path, **told)) for _ in range(most)]
                while len(shop.catalog.calls) < most:
                    await asyncio.sleep(0.02)
                answer = await shop.rest(verb, path, **told)
                web = await shop.rest(
                    "POST",
                    f"/shop.catalog.v1.CatalogService/{method}",
                    headers={**shop.signed_in, "content-type": "application/grpc-web"},
                    content=bytes(5),
                )
                other = await shop.rest("GET", "/api/users/7", headers=shop.signed_in)
            finally:
                shop.http = usual
                busy.set()
                await asyncio.gather(*calls)
        body = assert_refused(answer, 429, 8, "OVERLOADED")
        assert body["details"][1]["retry_delay"] == "1s"
        assert (web.status_code, web.headers["grpc-status"]) == (httpx.codes.OK, "8")
        assert web.headers["retry-after"] == "1"
        assert other.status_code == httpx.codes.OK


class TestDrain:
    async def test_calls_in_flight_are_answered_first(self, tmp_path: Path) -> None:
        async with running(tmp_path) as shop:
            arrived = asyncio.Event()

            async def slow(_: Any, __: Any) -> None:
                arrived.set()
                await asyncio.sleep(1)

            shop.catalog.answers["GetProduct"] = slow
            call = asyncio.create_task(shop.rest("GET", "/api/products/7"))
            await arrived.wait()
            began = time.monotonic()
            assert await asyncio.to_thread(edge.drain, shop.edge.admin)
            assert time.monotonic() - began > 0.5
            shop.envoy.terminate()
            assert (await call).status_code == httpx.codes.OK
            with pytest.raises(OSError):  # noqa: PT011 - whichever way it fails
                await asyncio.open_connection(shop.edge.listen.host, shop.edge.listen.port)

    async def test_it_gives_up_after_a_while(self, tmp_path: Path) -> None:
        async with running(tmp_path) as shop:
            arrived = asyncio.Event()

            async def stuck(_: Any, __: Any) -> None:
                arrived.set()
                await asyncio.sleep(3)

            shop.catalog.answers["GetProduct"] = stuck
            call = asyncio.create_task(shop.rest("GET", "/api/products/7"))
            await arrived.wait()
            assert not await asyncio.to_thread(edge.drain, shop.edge.admin, seconds=0.2)
            await call

    def test_an_edge_that_is_gone_has_no_calls(self) -> None:
        assert edge.drain(Address("127.0.0.1", 1))
