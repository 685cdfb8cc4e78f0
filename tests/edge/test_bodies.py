"""Bodies and queries, good and bad (promise A13): a typed 4xx, never a 5xx."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import grpc
import httpx
import pytest

from shop.catalog.v1 import catalog_pb2
from shop.users.v1 import users_pb2
from tests.edge.conftest import Shop
from tests.edge.refused import assert_refused, grpc_refused

LIMIT = 64 * 1024

MALFORMED = {
    "no JSON": b"email=a&password=b",
    "cut off": b'{"email":',
    "only spaces": b"   ",
    "two values": b'{"email":"a"}{"email":"b"}',
    "something behind": b'{"email":"a"} x',
    "a list": b"[]",
    "a string": b'"a"',
    "a number": b"5",
    "null": b"null",
    "NaN": b'{"email":NaN}',
    "a number too large": b'{"email":1e999}',
    "an object for a string": b'{"email":{}}',
    "a list for a string": b'{"email":["a"]}',
    "a number for a string": b'{"email":5}',
    "a lone high surrogate": b'{"email":"\\ud800"}',
    "a lone low surrogate": b'{"email":"\\udc00x"}',
    "a surrogate for a key": b'{"\\ud800":1}',
    "bytes that are not UTF-8": b'{"email":"\xff\xfe"}',
    "a key that is not UTF-8": b'{"\xff":"a"}',
    "a field without a name": b'{"email":"a","":1}',
    "UTF-16": '{"email":"a"}'.encode("utf-16"),
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "10,000 nested objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "60,000 nested lists": b"[" * 60_000,
    "30,000 nested lists in a field": b'{"email":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
}

# What JSON parsers agree about less; the message arrives without what it does not know.
LENIENT = {
    "nothing": b"",
    "an empty object": b"{}",
    "an unknown field": b'{"nothing":1}',
    "an unknown type": b'{"@type":"type.googleapis.com/shop.users.v1.User"}',
    "a field without a name, unknown as it is": b'{"nothing":{"":1}}',
    "null for a field": b'{"email":null}',
    "5,000 unknown keys": json.dumps({f"k{i}": 1 for i in range(5_000)}).encode(),
}


class TestBodies:
    @pytest.mark.parametrize("what", MALFORMED)
    async def test_malformed_ones_are_refused(self, shop: Shop, what: str) -> None:
        answer = await shop.rest("POST", "/api/users/", content=MALFORMED[what])
        assert_refused(answer, 400, 3, "MALFORMED_REQUEST")
        assert shop.users.calls == []

    @pytest.mark.parametrize("what", LENIENT)
    async def test_unknown_things_are_left_out(self, shop: Shop, what: str) -> None:
        answer = await shop.rest("POST", "/api/users/", content=LENIENT[what])
        assert answer.status_code == httpx.codes.OK, answer.text
        assert shop.users.last.request == users_pb2.CreateUserRequest()

    async def test_of_duplicate_keys_the_last_counts(self, shop: Shop) -> None:
        await shop.rest("POST", "/api/users/", content=b'{"email":"a","email":"b"}')
        assert shop.users.last.request.email == "b"

    async def test_nul_reaches_the_service_which_refuses_it(self, shop: Shop) -> None:
        await shop.rest("POST", "/api/users/", content=b'{"email":"a\\u0000b"}')
        assert shop.users.last.request.email == "a\0b"

    async def test_any_media_type_is_read_as_json(self, shop: Shop) -> None:
        for media in ("text/plain", "application/x-www-form-urlencoded", ""):
            headers = {"content-type": media}
            await shop.rest("POST", "/api/users/", content=b'{"email":"a"}', headers=headers)
            assert shop.users.last.request.email == "a"

    @pytest.mark.parametrize(
        "body",
        [
            b'{"price":{"units":"1.5"}}',
            b'{"price":{"units":"9223372036854775808"}}',
            b'{"price":{"units":1e999}}',
            b'{"price":{"nanos":2147483648}}',
            b'{"price":[]}',
            b'{"stock":1.5}',
            b'{"stock":"many"}',
            b'{"stock":-1e30}',
            b'{"state":"NO_SUCH_STATE"}',
            b'{"state":99999999999999}',
            b'{"variants":[5]}',
            b'{"attributes":[]}',
        ],
    )
    async def test_values_of_another_type_are_refused(self, shop: Shop, body: bytes) -> None:
        answer = await shop.rest("POST", "/api/products", content=body, headers=shop.signed_in)
        assert_refused(answer, 400, 3, "MALFORMED_REQUEST")

    async def test_the_field_at_fault_is_named(self, shop: Shop) -> None:
        answer = await shop.rest("POST", "/api/users", json={"email": 5})
        body = assert_refused(answer, 400, 3, "MALFORMED_REQUEST")
        assert "email" in body["message"]

    async def test_masks_are_comma_separated(self, shop: Shop) -> None:
        headers = shop.signed_in
        mask = {"update_mask": "full_name,phone", "full_name": "x"}
        await shop.rest("PUT", "/api/users/7", json=mask, headers=headers)
        assert list(shop.users.last.request.update_mask.paths) == ["full_name", "phone"]
        path = "/api/users/7/?update_mask=full_name,phone"
        await shop.rest("PATCH", path, json={"full_name": "x"}, headers=headers)
        assert list(shop.users.last.request.update_mask.paths) == ["full_name", "phone"]

    async def test_masks_have_no_notation_of_their_own(self, shop: Shop) -> None:
        mask = {"update_mask": "full_name)", "full_name": "x"}
        answer = await shop.rest("PUT", "/api/users/7", json=mask, headers=shop.signed_in)
        assert_refused(answer, 400, 3, "MALFORMED_REQUEST")


class TestSize:
    @staticmethod
    def body(size: int) -> bytes:
        return b'{"full_name":"' + b"a" * (size - 16) + b'"}'

    async def test_64_kib_are_taken(self, shop: Shop) -> None:
        answer = await shop.rest("POST", "/api/users", content=self.body(LIMIT))
        assert answer.status_code == httpx.codes.OK, answer.text
        assert len(shop.users.last.request.full_name) == LIMIT - 16

    async def test_a_byte_more_is_refused(self, shop: Shop) -> None:
        answer = await shop.rest("POST", "/api/users", content=self.body(LIMIT + 1))
        assert_refused(answer, 413, 8, "BODY_TOO_LARGE")
        assert shop.users.calls == []

    async def test_also_when_the_length_is_not_announced(self, shop: Shop) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, LIMIT + 1, 4096):
                yield self.body(LIMIT + 1)[start : start + 4096]

        answer = await shop.rest("POST", "/api/users", content=chunks())
        assert_refused(answer, 413, 8, "BODY_TOO_LARGE")

    async def test_100_000_keys_are_refused(self, shop: Shop) -> None:
        body = json.dumps({f"k{i}": 1 for i in range(100_000)}).encode()
        answer = await shop.rest("POST", "/api/users", content=body)
        assert_refused(answer, 413, 8, "BODY_TOO_LARGE")

    async def test_the_limit_holds_natively(self, shop: Shop) -> None:
        request = users_pb2.CreateUserRequest(full_name="a" * LIMIT).SerializeToString()
        with grpc_refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "BODY_TOO_LARGE"):
            await shop.grpc("/shop.users.v1.UserService/CreateUser", request)
        assert shop.users.calls == []

    async def test_answers_may_be_larger(self, shop: Shop) -> None:
        products = [catalog_pb2.Product(description="é" * 1000)] * 1000

        async def answer(_: object, __: object) -> catalog_pb2.ListProductsResponse:
            return catalog_pb2.ListProductsResponse(products=products)

        shop.catalog.answers["ListProducts"] = answer
        page = await shop.rest("GET", "/api/products?page_size=1000")
        assert page.status_code == httpx.codes.OK
        assert len(page.json()["products"]) == 1000


class TestQueries:
    @pytest.mark.parametrize(
        "query",
        [
            "page_size=abc",
            "page_size=1.5",
            "page_size=1e999",
            "page_size=2147483648",
            "page_size=",
            "page_size=1&page_size=x",
            "in_stock=perhaps",
            "min_price.units=x",
            "a." * 2000 + "b=1",
            "page%5ftoken=x",
        ],
    )
    async def test_malformed_ones_are_refused(self, shop: Shop, query: str) -> None:
        answer = await shop.rest("GET", f"/api/products?{query}")
        assert_refused(answer, 400, 3, "MALFORMED_REQUEST")
        assert shop.catalog.calls == []

    async def test_all_of_unicode_is_text(self, shop: Shop) -> None:
        await shop.rest("GET", "/api/products/%e6%97%a5")
        assert shop.catalog.last.request.id == "日"
        await shop.rest("GET", "/api/products?q=%F0%9F%91%9F+%25+%C3%A9")
        assert shop.catalog.last.request.q == "👟 % é"

    async def test_long_ones_reach_the_service(self, shop: Shop) -> None:
        answer = await shop.rest("GET", "/api/products?page_token=" + "x" * 15_000)
        assert answer.status_code == httpx.codes.OK, answer.text
        assert len(shop.catalog.last.request.page_token) == 15_000

    async def test_longer_ones_are_refused(self, shop: Shop) -> None:
        answer = await shop.rest("GET", "/api/products?page_token=" + "x" * 30_000)
        refused = assert_refused(answer, 431, 3, "MALFORMED_REQUEST")
        assert refused["message"] == "The address and headers are too large."


NOT_HTTP = {
    "garbage": (b"hello\r\n\r\n", 400),
    "no host": (b"GET /api/products HTTP/1.1\r\n\r\n", 400),
    "HTTP/1.0": (b"GET /api/products HTTP/1.0\r\n\r\n", 426),
    "an unknown verb": (b"BREW /api/products HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "two lengths": (
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        400,
    ),
    "an unknown encoding": (
        b"POST /api/users HTTP/1.1\r\nhost: a\r\ntransfer-encoding: foo\r\n\r\n",
        400,
    ),
    "a length that is none": (
        b"POST /api/users HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
        400,
    ),
    "200 headers": (
        b"GET /api/products HTTP/1.1\r\nhost: a\r\n"
        + b"".join(b"x-%d: a\r\n" % number for number in range(200))
        + b"\r\n",
        431,
    ),
    "an upgrade": (
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        400,
    ),
    "a fragment": (b"GET /api/products#x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "a control character": (b"GET /api/\x01 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "raw bytes": (b"GET /api/products?q=\xff HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "a star": (b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", 404),
}


@pytest.mark.parametrize("what", NOT_HTTP)
async def test_what_is_not_http_gets_json_too(shop: Shop, what: str) -> None:
    sent, status = NOT_HTTP[what]
    reader, writer = await asyncio.open_connection(shop.edge.listen.host, shop.edge.listen.port)
    writer.write(sent)
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = (line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        headers = httpx.Headers([(name, value) for name, value in lines])
        body = await reader.readexactly(int(headers["content-length"]))
    writer.close()
    answer = httpx.Response(int(head.split()[1]), headers=headers, content=body)
    reason = "ROUTE_NOT_FOUND" if status == httpx.codes.NOT_FOUND else "MALFORMED_REQUEST"
    assert_refused(answer, status, 5 if status == httpx.codes.NOT_FOUND else 3, reason)
