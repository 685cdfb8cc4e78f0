"""Rubbish in paths, queries and headers: a typed refusal, and nothing stored."""

from __future__ import annotations

import httpx
import pytest

from tests.refusals import refused
from tests.visitors import Shop, answered, euros

pytestmark = pytest.mark.usefixtures("nothing_stored")


NOBODYS_ID = "01a20989-0fd8-7737-b45f-51b8f45f0757"


class TestPaths:
    @pytest.mark.parametrize(
        "path",
        [
            "/index.html",
            "/docs/docs.css/",
            "/docs/../envoy.yaml",
            "/api",
            "/api/product/",
            "/api/products/7/8/",
            "/api/carts/",
            "/.env",
        ],
    )
    async def test_that_lead_nowhere(self, shop: Shop, path: str) -> None:
        for verb in ("GET", "POST", "PUT", "DELETE"):
            answer = await shop.staff.call(verb, path)
            assert answer.status_code in (404, 405)
            refused(answer, "ROUTE_NOT_FOUND", answer.status_code)

    @pytest.mark.parametrize(
        ("verb", "path", "allow"),
        [
            ("PUT", "/api/products/", "GET, POST"),
            ("DELETE", "/api/users/", "GET, POST"),
            ("POST", f"/api/products/{NOBODYS_ID}/", "DELETE, GET, PATCH, PUT"),
            ("POST", "/api/users/me/", "DELETE, GET, PATCH, PUT"),
            ("GET", "/api/auth/login/", "POST"),
            ("GET", "/api/users/me/role/", "PATCH, PUT"),
            ("TRACE", "/api/products/", "GET, POST"),
        ],
    )
    async def test_with_the_wrong_verb(self, shop: Shop, verb: str, path: str, allow: str) -> None:
        answer = await shop.staff.call(verb, path)
        refused(answer, "ROUTE_NOT_FOUND", 405)
        assert answer.headers["allow"] == allow

    async def test_with_a_verb_of_ones_own(self, shop: Shop) -> None:
        refused(await shop.nobody.call("BREW", "/api/products/"), "MALFORMED_REQUEST")

    @pytest.mark.parametrize(
        "path",
        [
            b"/api/products/%ff",
            b"/api/products/%ed%a0%80",
            b"/api/products/%c0%af",
            b"/api/products/%00",
            b"/api/products/a%2fb",
            b"/api/products/..%2f..%2fusers",
            b"/api/products/?q=%ff",
            b"/api/products/?q=%ed%a0%80",
            b"/api/products/?%71=lamp",
            b"/api/users/me/?id=7",
            b"/api/products/?colour=red",
            b"/api/products/?page_size=many",
            b"/api/products/?page_size=1.5",
            b"/api/products/?page_size=9999999999",
            b"/api/products/?min_price=1e3",
            b"/api/products/?in_stock=maybe",
            b"/api/users/?role=KING",
            b"/api/products/?state=99",
            b"/api/products/?products=x",
        ],
    )
    async def test_that_cannot_be_read(self, shop: Shop, path: bytes) -> None:
        refused(await shop.staff.call("GET", path), "MALFORMED_REQUEST")

    @pytest.mark.parametrize(
        ("path", "field"),
        [
            (b"/api/products/'%20OR%201=1--/", "id"),
            (b"/api/products/" + b"a" * 5000, "id"),
            (b"/api/products/%F0%9F%98%80/", "id"),
            (b"/api/users/7/", "id"),
            (b"/api/users/me/addresses/7/", "id"),
            (b"/api/products/?q=%00", "q"),
            (b"/api/products/?q=" + b"x" * 201, "q"),
            (b"/api/products/?page_size=-1", "page_size"),
            (b"/api/products/?page_size=1001", "page_size"),
            (b"/api/products/?category_id=7", "category_id"),
            (b"/api/products/?attributes=x", "attributes[0]"),
            (b"/api/products/?order_by=price%20desc", "order_by"),
            (b"/api/products/?order_by=relevance", ""),
            (b"/api/products/?currency_code=euro", "currency_code"),
            (b"/api/products/?min_price=-1", "min_price"),
            (b"/api/products/?page_token=" + b"x" * 1025, "page_token"),
        ],
    )
    async def test_that_break_a_rule(self, shop: Shop, path: bytes, field: str) -> None:
        refusal = refused(await shop.staff.call("GET", path), "VALIDATION_FAILED")
        assert field in refusal.fields

    @pytest.mark.parametrize("token", ["x", "AAAA", "e30", "W10", "bnVsbA", "=", "é", "' --"])
    @pytest.mark.parametrize("path", ["/api/products/", "/api/users/", "/api/categories/"])
    async def test_page_tokens_that_nobody_gave(self, shop: Shop, path: str, token: str) -> None:
        refused(await shop.staff.get(path, page_token=token), "INVALID_PAGE_TOKEN")

    async def test_a_page_token_of_another_list(self, shop: Shop) -> None:
        page = answered(await shop.staff.get("/api/users/", page_size=1))
        for path, query in (
            ("/api/products/", {}),
            ("/api/users/", {"role": "STAFF"}),
        ):
            answer = await shop.staff.get(path, page_token=page["next_page_token"], **query)
            refused(answer, "INVALID_PAGE_TOKEN")

    async def test_50_kb_of_headers(self, shop: Shop) -> None:
        answer = await shop.nobody.call("GET", "/api/products/", headers={"x-much": "x" * 50_000})
        refused(answer, "MALFORMED_REQUEST", 431)


class TestKeys:
    @pytest.mark.parametrize("key", [b"", b"x" * 256, b"\xc3\xa9", b"tab\there"])
    async def test_that_are_not_printable(self, shop: Shop, key: bytes) -> None:
        url = httpx.URL(shop.ready.edge + "/api/products/")
        headers = [
            (b"authorization", f"Bearer {shop.staff.token}".encode()),
            (b"idempotency-key", key),
        ]
        body = {"name": "x", "price": euros(1)}
        answer = await shop.http.post(url, json=body, headers=headers)
        refused(answer, "IDEMPOTENCY_KEY_INVALID")
