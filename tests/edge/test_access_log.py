"""The access log: a line of JSON for each call, without what customers typed (promise A16)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from cli.edge_options import EdgeOptions
from tests.edge.conftest import Shop, running

CANARY = "canary-of-a-customer"
GET_USER = "/shop.users.v1.UserService/GetUser"


@pytest.fixture(scope="module")
async def logged(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """An edge that logs all calls."""
    options = EdgeOptions(rate=None, strict_rate=None, access_log="all")
    async with running(tmp_path_factory.mktemp("log"), options=options) as shop:
        yield shop


async def line(shop: Shop, request_id: str) -> dict[str, Any]:
    """What is logged of a call."""
    async with asyncio.timeout(30):
        while True:
            for text in shop.log.read_text().splitlines():
                if request_id in text and text.endswith("}"):
                    found: dict[str, Any] = json.loads(text)
                    return found
            await asyncio.sleep(0.05)


async def test_a_rest_call(logged: Shop) -> None:
    path = "/api/products/7/"
    answer = await logged.rest("GET", path, headers={"user-agent": CANARY})
    told = await line(logged, answer.headers["x-request-id"])
    assert (told["method"], told["path"], told["status"]) == ("GET", path, 200)
    assert told["rpc"] == "shop.catalog.v1.CatalogService.GetProduct"
    assert (told["client"], told["protocol"]) == ("127.0.0.1", "HTTP/1.1")
    assert told["bytes_out"] == len(answer.content)
    assert told["milliseconds"] >= 0
    assert told["request_id"] == logged.catalog.last.metadata["x-request-id"]


async def test_a_grpc_call_with_its_status(logged: Shop) -> None:
    async def refuse(_: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no")

    method: Any = logged.channel.unary_unary(GET_USER)
    for answers, status in (({}, "0"), ({"GetUser": refuse}, "5")):
        logged.users.answers |= answers
        call = method(b"", metadata=tuple(logged.signed_in.items()))
        assert (await call.code()).value[0] == int(status)
        # An answer without a message has all of its metadata in the trailers.
        metadata = [*await call.initial_metadata(), *await call.trailing_metadata()]
        told = await line(logged, dict(metadata)["x-request-id"])
        assert (told["method"], told["path"], told["grpc_status"]) == ("POST", GET_USER, status)
    logged.users.forget()


async def test_a_refusal_of_the_edges_own(logged: Shop) -> None:
    answer = await logged.rest("GET", "/api/users/7")
    told = await line(logged, answer.headers["x-request-id"])
    assert (told["status"], told["why"]) == (401, "jwt_authn_access_denied{Jwt_is_missing}")


async def test_nothing_that_customers_typed(logged: Shop) -> None:
    secrets = {
        "authorization": f"Bearer {CANARY}",
        "x-cart-token": CANARY,
        "idempotency-key": CANARY,
        "referer": f"http://127.0.0.1/?{CANARY}",
        "user-agent": CANARY,
        "if-match": CANARY,
    }
    body = {"email": CANARY, "password": CANARY}
    answers = [
        await logged.rest("GET", f"/api/products?q={CANARY}"),
        await logged.rest("GET", f"/api/products?{CANARY}={CANARY}"),
        await logged.rest("POST", f"/api/auth/login?email={CANARY}", json=body, headers=secrets),
        await logged.rest("POST", "/api/auth/login", json=body),
        await logged.rest("GET", "/api/products/7", headers=secrets),
    ]
    assert {answer.status_code for answer in answers} <= {200, 400, 401}
    await line(logged, answers[-1].headers["x-request-id"])
    assert CANARY not in logged.log.read_text()


async def test_by_choice_only_failures_on_our_side(tmp_path_factory: Any) -> None:
    options = EdgeOptions(rate=None, strict_rate=None, access_log="errors")
    async with running(tmp_path_factory.mktemp("errors"), options=options) as shop:

        async def fail(_: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.INTERNAL, "broken")

        good = await shop.rest("GET", "/api/products/7")
        missing = await shop.rest("GET", "/api/nothing")
        shop.catalog.answers["GetProduct"] = fail
        bad = await shop.rest("GET", "/api/products/7")
        assert [answer.status_code for answer in (good, missing, bad)] == [200, 404, 500]
        await line(shop, bad.headers["x-request-id"])
        text = shop.log.read_text()
        for answer in (good, missing):
            assert answer.headers["x-request-id"] not in text
