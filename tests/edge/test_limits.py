"""How often one address may call, and what it is told when that is too often."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import httpx
import pytest

from cli.edge_options import EdgeOptions, Rate
from tests.edge import grpc_web
from tests.edge.conftest import PATIENCE_SECONDS, Shop, running
from tests.edge.refused import assert_refused, grpc_refused

STRICT = {
    "/api/auth/login": "/shop.users.v1.AuthService/Login",
    "/api/users": "/shop.users.v1.UserService/CreateUser",
    "/api/auth/password-reset": "/shop.users.v1.AuthService/RequestPasswordReset",
    "/api/auth/password-reset/confirm": "/shop.users.v1.AuthService/ConfirmPasswordReset",
    "/api/auth/verify-email": "/shop.users.v1.AuthService/VerifyEmail",
}
CALLS, STRICT_CALLS = 40, 3


@pytest.fixture(scope="module")
async def limited(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """An edge that soon has enough, and for so long that no test sees the end of it."""
    options = EdgeOptions(rate=Rate(CALLS, 60), strict_rate=Rate(STRICT_CALLS, 60))
    async with running(tmp_path_factory.mktemp("limits"), options=options) as shop:
        yield shop


@contextlib.asynccontextmanager
async def calling_from(shop: Shop, address: str) -> AsyncIterator[None]:
    """Let the shop's client have another address of this machine."""
    transport = httpx.AsyncHTTPTransport(local_address=address)
    async with httpx.AsyncClient(transport=transport, timeout=15) as http:
        usual, shop.http = shop.http, http
        try:
            yield
        finally:
            shop.http = usual


@pytest.mark.parametrize("path", STRICT)
async def test_what_strangers_could_guess_with_is_limited_strictly(
    limited: Shop, path: str
) -> None:
    async with calling_from(limited, f"127.0.1.{list(STRICT).index(path) + 1}"):
        tries = [await limited.rest("POST", path, json={}) for _ in range(STRICT_CALLS)]
        assert [answer.status_code for answer in tries] == [200] * STRICT_CALLS
        answer = await limited.rest("POST", f"{path}/", json={})
        body = assert_refused(answer, 429, 8, "RATE_LIMITED")
        assert answer.headers["retry-after"] == "20"  # 60 seconds for 3 calls
        assert body["details"][1]["retry_delay"] == "20s"
        web = await grpc_web.call(limited, STRICT[path])
        assert (web.status, web.trailers["retry-after"]) == ("8", "20")
        # Everything else goes on.
        assert (await limited.rest("GET", "/api/products")).status_code == httpx.codes.OK


async def test_natively_it_is_resource_exhausted(limited: Shop) -> None:
    path = "/shop.users.v1.AuthService/Login"
    for _ in range(STRICT_CALLS):
        await limited.grpc(path)
    with grpc_refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"):
        await limited.grpc(path)


async def test_all_calls_of_an_address_count(limited: Shop) -> None:
    async with calling_from(limited, "127.0.2.1"):
        answers = await asyncio.gather(
            *(limited.rest("GET", "/api/products/7") for _ in range(3 * CALLS))
        )
        refused = [answer for answer in answers if answer.status_code != httpx.codes.OK]
        # Some come back while they are asked for, two in three seconds.
        assert CALLS <= len(answers) - len(refused) < 2 * CALLS
        for answer in refused:
            assert_refused(answer, 429, 8, "RATE_LIMITED")
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["access-control-allow-origin"] == "*"
        async with calling_from(limited, "127.0.2.2"):  # others do not notice
            assert (await limited.rest("GET", "/api/products/7")).status_code == httpx.codes.OK


@pytest.mark.parametrize(
    "name", ["x-forwarded-for", "forwarded", "x-real-ip", "x-envoy-external-address"]
)
async def test_an_address_cannot_be_made_up(limited: Shop, name: str) -> None:
    """Promise A10."""
    last = ["x-forwarded-for", "forwarded", "x-real-ip", "x-envoy-external-address"].index(name)
    async with calling_from(limited, f"127.0.3.{last + 1}"):
        answers = [
            await limited.rest("POST", "/api/auth/login", json={}, headers={name: f"203.0.113.{n}"})
            for n in range(STRICT_CALLS + 1)
        ]
    assert [answer.status_code for answer in answers] == [200] * STRICT_CALLS + [429]


async def test_behind_a_proxy_of_ours_it_is_the_proxys_word(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What stands before that in the list, anybody may have written."""
    options = EdgeOptions(rate=None, strict_rate=Rate(1, 60), trusted_proxies=1)
    async with running(tmp_path_factory.mktemp("proxy"), options=options) as shop:
        statuses = []
        for said in ("203.0.113.1", "203.0.113.2", "198.51.100.7, 203.0.113.1"):
            headers = {"x-forwarded-for": said, "x-forwarded-host": "forged"}
            answer = await shop.rest("POST", "/api/auth/login", json={}, headers=headers)
            statuses.append(answer.status_code)
        assert statuses == [200, 200, 429]
        assert "x-forwarded-host" not in shop.users.last.metadata


async def test_what_is_refused_reaches_no_service(limited: Shop) -> None:
    async with calling_from(limited, "127.0.4.1"):
        before = len(limited.users.calls)
        for _ in range(STRICT_CALLS + 5):
            await limited.rest("POST", "/api/auth/login", json={})
        assert len(limited.users.calls) - before == STRICT_CALLS


async def test_whoever_waits_may_call_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    options = EdgeOptions(rate=None, strict_rate=Rate(1, 2))

    async def until(status: int) -> None:
        while (await shop.rest("POST", "/api/auth/login", json={})).status_code != status:
            await asyncio.sleep(0.05)

    async with (
        running(tmp_path_factory.mktemp("again"), options=options) as shop,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        await until(httpx.codes.TOO_MANY_REQUESTS)
        await until(httpx.codes.OK)


async def test_without_a_limit_there_is_none(shop: Shop) -> None:
    answers = [await shop.rest("POST", "/api/auth/login", json={}) for _ in range(150)]
    assert {answer.status_code for answer in answers} == {httpx.codes.OK}


async def test_either_limit_can_be_lifted_alone(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    options = EdgeOptions(rate=None, strict_rate=Rate(1, 60))
    async with running(tmp_path_factory.mktemp("strict"), options=options) as shop:
        answers = [await shop.rest("POST", "/api/auth/login", json={}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        answers = [await shop.rest("GET", "/api/products") for _ in range(150)]
        assert {answer.status_code for answer in answers} == {httpx.codes.OK}
