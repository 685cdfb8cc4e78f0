"""Rubbish in bodies and messages: a typed refusal, and nothing stored."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from services.kit.ids import uuid7
from tests.refusals import refused
from tests.running import refused as grpc_refused
from tests.visitors import PASSWORD, Shop

PRICE = b'"price":{"currency_code":"EUR","units":"20"}'


pytestmark = pytest.mark.usefixtures("nothing_stored")


def product(**fields: bytes) -> bytes:
    """A product as JSON, with fields as they are to be sent."""
    parts = [b'"%s":%s' % (name.encode(), value) for name, value in fields.items()]
    return b"{" + b",".join([*parts, PRICE]) + b"}"


def named(value: bytes) -> bytes:
    """A product of this name."""
    return product(name=value)


def with_stock(value: bytes) -> bytes:
    """A product of which there are so many."""
    return product(name=b'"x"', stock=value)


def costing(units: bytes) -> bytes:
    """A product of this price."""
    return b'{"name":"x","price":{"currency_code":"EUR","units":%s}}' % units


MALFORMED = {
    "no JSON": b"name=x",
    "half of an object": b'{"name":',
    "a list": b"[]",
    "null": b"null",
    "a text": b'"x"',
    "a number": b"7",
    "two objects": named(b'"x"') * 2,
    "something behind it": named(b'"x"') + b" x",
    "a byte order mark": b"\xef\xbb\xbf" + named(b'"x"'),
    "UTF-16": named(b'"x"').decode().encode("utf-16"),
    "gzip": b"\x1f\x8b\x08\x00\x00",
    "a comment": b"/* x */" + named(b'"x"'),
    "number for text": named(b"5"),
    "bool for text": named(b"true"),
    "list for text": named(b'["x"]'),
    "object for text": named(b'{"x":1}'),
    "text for object": b'{"name":"x","price":"20 EUR"}',
    "object for list": product(name=b'"x"', media=b'{"url":1}'),
    "text for map": product(name=b'"x"', attributes=b'"x"'),
    "over 64 bits": costing(b'"9223372036854775808"'),
    "1e30 for 64 bits": costing(b"1e30"),
    "a fraction of a unit": costing(b"1.5"),
    "no such enum value": product(name=b'"x"', state=b'"SOLD"'),
    "not UTF-8": named(b'"a\xff\xfeb"'),
    "overlong UTF-8": named(b'"a\xc0\xafb"'),
    "a surrogate in UTF-8": named(b'"a\xed\xa0\x80b"'),
    "a lone high surrogate": named(b'"a\\ud800b"'),
    "a lone low surrogate": named(b'"a\\udc00b"'),
    "3,000 deep": b'{"attributes":' * 3000 + b"1" + b"}" * 3000,
    "30,000 lists deep": b"[" * 30_000 + b"]" * 30_000,
    "deep where nobody looks": b'{"x":' * 5000 + b"1" + b"}" * 5000,
}
MALFORMED_NUMBERS = {
    "a text": with_stock(b'"many"'),
    "a fraction": with_stock(b"1.5"),
    "not a number": with_stock(b"NaN"),
    "infinity": with_stock(b"1e999"),
    "400 digits": with_stock(b"9" * 400),
    "over 32 bits": with_stock(b"2147483648"),
    "a list": with_stock(b"[1, 2]"),
    "an object": with_stock(b"{}"),
}
INVALID = {
    "nothing": (b"", {"", "name"}),
    "an empty object": (b"{}", {"", "name"}),
    "null for text": (named(b"null"), {"name"}),
    "NUL, escaped": (named(b'"a\\u0000b"'), {"name"}),
    "NUL as it is": (named(b'"a\x00b"'), {"name"}),
    "text for a list": (product(name=b'"x"', category_ids=b'"x"'), {"category_ids[0]"}),
    "NUL in a key": (product(name=b'"x"', attributes=b'{"a\\u0000":"b"}'), None),
    "too long": (named(b'"%s"' % (b"x" * 201)), {"name"}),
    "below zero": (with_stock(b"-1"), {"stock"}),
    "over the bound": (with_stock(b"2000000000"), {"stock"}),
    "a price below zero": (costing(b'"-1"'), {"price"}),
    "a price beyond all": (costing(b'"9000000000000000000"'), {"price"}),
    "an unknown enum number": (product(name=b'"x"', state=b"99"), {"state"}),
    "no such currency": (
        b'{"name":"x","price":{"currency_code":"ZZZ","units":"1"}}',
        {"price.currency_code"},
    ),
    "tenths of a cent": (
        b'{"name":"x","price":{"currency_code":"EUR","units":"1","nanos":1000000}}',
        {"price.nanos"},
    ),
    "5,000 unknown keys": (json.dumps({f"k{i}": 1 for i in range(5000)}).encode(), {"", "name"}),
    "3,000 attributes": (
        product(name=b'"x"', attributes=json.dumps({f"k{i}": "1" for i in range(3000)}).encode()),
        {"attributes"},
    ),
    "3,000 ids that are none": (
        product(name=b'"x"', category_ids=json.dumps([str(i) for i in range(3000)]).encode()),
        None,
    ),
    "the last of two keys counts": (
        b'{"name":"good","name":"",' + PRICE + b"}",
        {"name"},
    ),
    "a script for an address": (
        product(name=b'"x"', media=b'[{"url":"javascript:alert(1)"}]'),
        None,
    ),
}


class TestBodies:
    @pytest.mark.parametrize("what", MALFORMED)
    async def test_what_cannot_be_read(self, shop: Shop, what: str) -> None:
        answer = await shop.staff.call("POST", "/api/products/", content=MALFORMED[what])
        refused(answer, "MALFORMED_REQUEST")

    @pytest.mark.parametrize("what", MALFORMED_NUMBERS)
    async def test_what_is_no_whole_number(self, shop: Shop, what: str) -> None:
        answer = await shop.staff.call("POST", "/api/products/", content=MALFORMED_NUMBERS[what])
        refused(answer, "MALFORMED_REQUEST")

    @pytest.mark.parametrize("what", INVALID)
    async def test_what_breaks_a_rule(self, shop: Shop, what: str) -> None:
        content, fields = INVALID[what]
        answer = await shop.staff.call("POST", "/api/products/", content=content)
        refusal = refused(answer, "VALIDATION_FAILED")
        assert refusal.fields
        assert len(refusal.fields) <= 20
        if fields is not None:
            assert refusal.fields.keys() == fields

    @pytest.mark.parametrize("verb", ["PUT", "PATCH"])
    @pytest.mark.parametrize("what", [*MALFORMED, "an id in the path's way"])
    async def test_in_an_update(self, shop: Shop, verb: str, what: str) -> None:
        content = MALFORMED.get(what, b'{"id":"%s","name":"x"}' % str(uuid7()).encode())
        answer = await shop.staff.call(verb, f"/api/products/{uuid7()}/", content=content)
        refused(answer, "MALFORMED_REQUEST")

    async def test_fields_of_users(self, shop: Shop) -> None:
        good = {"email": "x@example.com", "password": PASSWORD}
        rubbish: list[tuple[dict[str, Any], str]] = [
            ({"email": "nobody"}, "email"),
            ({"email": "x@" + "a" * 300 + ".com"}, "email"),
            ({"email": "x@exam\u0000ple.com"}, "email"),
            ({"email": "x@example.com\r\nBcc: eve@example.com"}, "email"),
            ({"password": "short"}, "password"),
            ({"password": "x" * 1025}, "password"),
            ({"password": "long enough\u0000"}, "password"),
            ({"phone": "call me"}, "phone"),
            ({"full_name": "x" * 201}, "full_name"),
        ]
        for fields, wrong in rubbish:
            answer = await shop.nobody.post("/api/users/", good | fields)
            assert wrong in refused(answer, "VALIDATION_FAILED").fields, fields

    @pytest.mark.parametrize("announced", [True, False], ids=["length", "chunked"])
    async def test_65_kib(self, shop: Shop, announced: bool) -> None:
        body = b'{"name":"%s"}' % (b"x" * 66_560)

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 4096):
                yield body[start : start + 4096]

        for verb, path in (("POST", "/api/products/"), ("PUT", "/api/users/me/")):
            content = body if announced else chunks()
            refused(await shop.staff.call(verb, path, content=content), "BODY_TOO_LARGE", 413)

    async def test_100_000_keys(self, shop: Shop) -> None:
        body = {"attributes": {f"k{i}": "1" for i in range(100_000)}}
        refused(await shop.staff.post("/api/products/", body), "BODY_TOO_LARGE", 413)


class TestGrpc:
    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            (b"\x0a\x02\xff\xfe", "MALFORMED_REQUEST"),
            (b"\x0a\xff", "MALFORMED_REQUEST"),
            (b"\xff\xff\xff\xff", "MALFORMED_REQUEST"),
            (b"\x0a\x03a\x00b", "VALIDATION_FAILED"),
            (b"\x08\x01", "VALIDATION_FAILED"),
            (b"\x0a\x01x" + b"\x12\x80\x80\x01" + b"x" * 16_384, "VALIDATION_FAILED"),
        ],
    )
    async def test_messages_that_are_none(self, shop: Shop, raw: bytes, reason: str) -> None:
        headers = (("authorization", f"Bearer {shop.staff.token}"),)
        for place in (shop.ready.edge.removeprefix("http://"), shop.ready.services["catalog"]):
            async with grpc.aio.insecure_channel(place) as channel:
                method: Any = channel.unary_unary("/shop.catalog.v1.CatalogService/CreateProduct")
                with grpc_refused(grpc.StatusCode.INVALID_ARGUMENT, reason):
                    await method(raw, metadata=headers)

    async def test_a_message_over_64_kib(self, shop: Shop) -> None:
        method: Any = shop.channel.unary_unary("/shop.catalog.v1.CatalogService/CreateProduct")
        with grpc_refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "BODY_TOO_LARGE"):
            await method(b"\x1a\x80\x80\x04" + b"x" * 65_536)
