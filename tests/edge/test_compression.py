"""Which answers are compressed, for whom, and how it is told."""

from __future__ import annotations

from typing import Any

import grpc
import httpx
import pytest

from shop.catalog.v1 import catalog_pb2
from tests.edge.conftest import Shop

GET_PRODUCT = "/shop.catalog.v1.CatalogService/GetProduct"
# Of Brotli nothing is told by its first bytes.
BEGINNINGS = {"gzip": b"\x1f\x8b", "br": b"", "zstd": b"\x28\xb5\x2f\xfd"}
LONG = "A lamp for long evenings. " * 200


@pytest.fixture
def long_answer(shop: Shop) -> None:
    """A product with more to say than fits one packet."""

    async def answer(_: Any, context: Any) -> catalog_pb2.Product:
        await context.send_initial_metadata((("etag", 'W/"v1"'), ("vary", "authorization")))
        return catalog_pb2.Product(id="7", description=LONG)

    shop.catalog.answers["GetProduct"] = answer


async def ask(shop: Shop, accepted: str, path: str = "/api/products/7") -> httpx.Response:
    return await shop.rest("GET", path, headers={"accept-encoding": accepted})


@pytest.mark.usefixtures("long_answer")
class TestLongAnswers:
    @pytest.mark.parametrize(
        ("accepted", "used"),
        [
            ("gzip", "gzip"),
            ("gzip, deflate, br", "br"),
            ("br;q=0.5, gzip;q=0.9", "gzip"),
            ("gzip;q=0, br", "br"),
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip, zstd;q=0.5", "gzip"),
        ],
    )
    async def test_come_as_the_client_takes_them(
        self, shop: Shop, accepted: str, used: str
    ) -> None:
        async with shop.http.stream(
            "GET",
            f"http://{shop.edge.listen}/api/products/7",
            headers={"accept-encoding": accepted},
        ) as answer:
            raw = b"".join([chunk async for chunk in answer.aiter_raw()])
        assert answer.headers["content-encoding"] == used
        assert len(raw) < len(LONG) / 5
        assert raw.startswith(BEGINNINGS[used])
        varies = {word.strip().lower() for word in answer.headers["vary"].split(",")}
        assert varies == {"authorization", "accept-encoding"}
        assert answer.headers["etag"] == 'W/"v1"'

    async def test_say_the_same(self, shop: Shop) -> None:
        plain = await ask(shop, "identity")
        assert "content-encoding" not in plain.headers
        assert (await ask(shop, "gzip")).json() == plain.json()
        assert plain.json()["description"] == LONG

    @pytest.mark.parametrize("accepted", ["identity", "gzip;q=0", "compress", ""])
    async def test_stay_as_they_are_for_others(self, shop: Shop, accepted: str) -> None:
        answer = await ask(shop, accepted)
        assert "content-encoding" not in answer.headers
        assert "accept-encoding" in answer.headers["vary"].lower()

    async def test_of_grpc_are_left_alone(self, shop: Shop) -> None:
        method: Any = shop.channel.unary_unary(GET_PRODUCT)
        call = method(b"", metadata=(("accept-encoding", "gzip, br"),))
        assert catalog_pb2.Product.FromString(await call).description == LONG
        assert "content-encoding" not in dict(await call.initial_metadata())

    async def test_of_grpc_web_are_left_alone(self, shop: Shop) -> None:
        headers = {"content-type": "application/grpc-web+proto", "accept-encoding": "gzip, br"}
        answer = await shop.rest("POST", GET_PRODUCT, headers=headers, content=b"\0" * 5)
        assert "content-encoding" not in answer.headers


async def test_short_answers_are_not_worth_it(shop: Shop) -> None:
    answer = await ask(shop, "gzip, br")
    assert answer.status_code == httpx.codes.OK
    assert "content-encoding" not in answer.headers


async def test_events_come_as_they_happen(shop: Shop) -> None:
    """Compressed, they would wait for each other."""
    with_token = {**shop.signed_in, "accept-encoding": "gzip, br"}
    address = f"http://{shop.edge.listen}/api/orders/7/watch"
    async with shop.http.stream("GET", address, headers=with_token) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert "content-encoding" not in answer.headers


async def test_an_error_with_a_long_text_is_compressed_too(shop: Shop) -> None:
    async def refuse(_: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, LONG)

    shop.catalog.answers["GetProduct"] = refuse
    answer = await ask(shop, "gzip")
    assert (answer.status_code, answer.json()["message"]) == (404, LONG)
