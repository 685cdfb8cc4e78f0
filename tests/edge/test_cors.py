"""What pages of other origins may do, by which the edge tells browsers (CORS)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest

from cli.edge_options import EdgeOptions
from tests.edge import grpc_web
from tests.edge.conftest import Shop, running

SHOP = "https://shop.example"
PREVIEW = "https://preview-7.shop.example"
LOCAL = "http://localhost:5173"
STRANGERS = [
    "https://evil.example",
    "http://shop.example",
    "https://shop.example.evil.example",
    "https://shop.example:8443",
    "https://evil.example/https://shop.example",
    "https://xshop.example",
    "null",
]
GET_PRODUCT = "/shop.catalog.v1.CatalogService/GetProduct"


@pytest.fixture(scope="module")
async def listed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """An edge for some origins only."""
    origins = (SHOP, "https://*.shop.example", "http://localhost:*")
    options = EdgeOptions(cors_origins=origins, rate=None, strict_rate=None)
    async with running(tmp_path_factory.mktemp("cors"), options=options) as shop:
        yield shop


async def preflight(shop: Shop, path: str, origin: str, verb: str = "PUT") -> httpx.Response:
    """What a browser asks before it makes a call that a form could not make."""
    headers = {
        "origin": origin,
        "access-control-request-method": verb,
        "access-control-request-headers": "authorization,content-type,idempotency-key",
    }
    return await shop.rest("OPTIONS", path, headers=headers)


def words(text: str) -> set[str]:
    return {word.strip().lower() for word in text.split(",")}


class TestForEverybody:
    @pytest.mark.parametrize("path", ["/api/products/7/", "/api/cart", GET_PRODUCT])
    async def test_a_preflight_says_what_may_be_sent(self, shop: Shop, path: str) -> None:
        answer = await preflight(shop, path, SHOP)
        assert answer.status_code == httpx.codes.OK
        assert answer.headers["access-control-allow-origin"] == "*"
        assert words(answer.headers["access-control-allow-methods"]) == {
            *("get", "post", "put", "patch", "delete")
        }
        assert words(answer.headers["access-control-allow-headers"]) >= {
            *("authorization", "content-type", "idempotency-key", "if-match", "if-none-match"),
            *("x-cart-token", "x-grpc-web", "grpc-timeout"),
        }
        assert int(answer.headers["access-control-max-age"]) >= 600
        assert all(backend.calls == [] for backend in shop.backends.values())

    @pytest.mark.parametrize("origin", [SHOP, "null", ""])
    async def test_answers_are_readable_and_the_same_for_all(self, shop: Shop, origin: str) -> None:
        """A cache may give one page's answer to another's."""
        headers = {"origin": origin} if origin else {}
        answer = await shop.rest("GET", "/api/products/7", headers=headers)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "origin" not in words(answer.headers.get("vary", ""))

    async def test_scripts_may_read_what_they_need(self, shop: Shop) -> None:
        answer = await shop.rest("GET", "/api/products/7", headers={"origin": SHOP})
        assert words(answer.headers["access-control-expose-headers"]) >= {
            *("etag", "location", "retry-after", "x-request-id"),
            *("grpc-status", "grpc-message", "grpc-status-details-bin"),
        }

    async def test_so_are_refusals_of_all_kinds(self, shop: Shop) -> None:
        for verb, path, status in (
            ("GET", "/api/users/7", 401),
            ("GET", "/api/nothing", 404),
            ("GET", "/api/products/7?id=8", 400),
            ("POST", "/api/auth/login", 400),
        ):
            answer = await shop.rest(verb, path, headers={"origin": SHOP}, content=b"{")
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == "*"

    async def test_no_cookies_ever(self, shop: Shop) -> None:
        for answer in (
            await preflight(shop, "/api/products/7", SHOP),
            await shop.rest("GET", "/api/products/7", headers={"origin": SHOP}),
        ):
            assert "access-control-allow-credentials" not in answer.headers

    async def test_options_without_an_origin_are_a_wrong_verb(self, shop: Shop) -> None:
        answer = await shop.rest("OPTIONS", "/api/products")
        assert answer.status_code == httpx.codes.METHOD_NOT_ALLOWED


class TestForSome:
    @pytest.mark.parametrize("origin", [SHOP, PREVIEW, LOCAL, "http://localhost:3000"])
    async def test_they_are_let_in(self, listed: Shop, origin: str) -> None:
        asked = await preflight(listed, "/api/products/7", origin)
        answer = await listed.rest("GET", "/api/products/7", headers={"origin": origin})
        for each in (asked, answer):
            assert each.headers["access-control-allow-origin"] == origin
        assert "origin" in words(answer.headers["vary"])
        assert "etag" in words(answer.headers["access-control-expose-headers"])

    @pytest.mark.parametrize("origin", STRANGERS)
    async def test_others_are_not(self, listed: Shop, origin: str) -> None:
        asked = await preflight(listed, "/api/products/7", origin)
        answer = await listed.rest("GET", "/api/products/7", headers={"origin": origin})
        for each in (asked, answer):
            assert "access-control-allow-origin" not in each.headers
        assert "origin" in words(answer.headers["vary"])  # a cache must not mix them up

    async def test_whoever_has_no_origin_is_served(self, listed: Shop) -> None:
        answer = await listed.rest("GET", "/api/products/7")
        assert answer.status_code == httpx.codes.OK


class TestGrpcWeb:
    @pytest.mark.parametrize("kind", [grpc_web.BINARY, grpc_web.TEXT])
    async def test_a_call_is_answered_with_its_trailers_in_the_body(
        self, shop: Shop, kind: str
    ) -> None:
        async def answer(request: Any, _: Any) -> Any:
            return type(request)(id=request.id * 2)

        shop.catalog.answers["GetProduct"] = answer
        done = await grpc_web.call(
            shop, GET_PRODUCT, b"\x0a\x0277", content_type=kind, origin=SHOP, x_grpc_web="1"
        )
        assert (done.status, done.messages) == ("0", [b"\x0a\x047777"])
        assert done.response.headers["access-control-allow-origin"] == "*"
        assert shop.catalog.last.request.id == "77"

    async def test_a_service_refuses_as_ever(self, shop: Shop) -> None:
        async def refuse(_: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.ABORTED, "no")

        shop.catalog.answers["GetProduct"] = refuse
        done = await grpc_web.call(shop, GET_PRODUCT)
        assert (done.status, done.trailers["grpc-message"], done.messages) == ("10", "no", [])

    @pytest.mark.parametrize("kind", [grpc_web.BINARY, grpc_web.TEXT])
    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/shop.users.v1.UserService/GetUser", "16"),
            ("/shop.users.v1.UserService/NoSuchMethod", "12"),
            ("/shop.catalog.v1.StockService/ReserveStock", "12"),
            ("/nothing", "12"),
        ],
    )
    async def test_so_does_the_edge(self, shop: Shop, kind: str, path: str, status: str) -> None:
        done = await grpc_web.call(shop, path, content_type=kind, origin=SHOP)
        assert (done.status, done.messages) == (status, [])
        assert done.trailers["grpc-message"].endswith(".")
        assert done.trailers["grpc-status-details-bin"]
        assert all(backend.calls == [] for backend in shop.backends.values())

    async def test_a_token_is_looked_at(self, shop: Shop) -> None:
        path, token = "/shop.users.v1.UserService/GetUser", shop.signed_in["authorization"]
        done = await grpc_web.call(shop, path, authorization=token)
        assert done.status == "0"
        assert shop.users.last.path == "/shop.users.v1.UserService/GetUser"

    async def test_a_message_may_have_64_kib(self, shop: Shop) -> None:
        done = await grpc_web.call(shop, GET_PRODUCT, b"x" * 70_000)
        assert (done.status, done.messages) == ("8", [])
