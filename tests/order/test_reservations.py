"""Stock that several orders ask for at the same time: who asks together, and what each hears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from services.kit import clients
from services.kit.auth import ServiceCredential
from services.kit.errors import ServiceError
from services.kit.ids import uuid7
from services.order.reservations import FEW_LINES, TOGETHER, Reservations
from shop.catalog.v1 import stock_pb2, stock_pb2_grpc
from shop.catalog.v1.catalog_pb2 import Product
from tests import callers, running
from tests.order.shop import Shop

PATH = "/shop.catalog.v1.StockService/"


class Catalogue:
    """The catalogue's stub, which notes what is asked of it."""

    def __init__(self, channel: Any, *, knows_batches: bool = True) -> None:
        self.stub = stock_pb2_grpc.StockServiceStub(channel)
        self.calls: list[str] = []
        one, several = self.stub.ReserveStock, self.stub.BatchReserveStock
        if not knows_batches:
            several = channel.unary_unary(
                PATH + "NotYetThere",
                request_serializer=stock_pb2.BatchReserveStockRequest.SerializeToString,
                response_deserializer=stock_pb2.BatchReserveStockResponse.FromString,
            )
        self.stub.ReserveStock = self._noting("one", one)
        self.stub.BatchReserveStock = self._noting("several", several)

    def _noting(self, name: str, method: Any) -> Any:
        def call(request: Any) -> Any:
            self.calls.append(name)
            return method(request)

        return call


@pytest_asyncio.fixture
async def channel(shop: Shop) -> AsyncIterator[Any]:
    """A way to the catalogue, as the order service has it."""
    credential = ServiceCredential("order", callers.SECRET)
    async with clients.connect(
        f"127.0.0.1:{shop.parts.catalogue.port}", credential, seconds=running.PATIENCE_SECONDS
    ) as channel:
        yield channel


async def hold(catalogue: Catalogue, products: list[Product], count: int) -> list[str]:
    """What each of so many orders hears that wants one of each: HELD, or the reason why not."""
    reservations = Reservations(catalogue.stub)

    async def order() -> str:
        request = stock_pb2.ReserveStockRequest(order_id=str(uuid7()))
        for product in products:
            request.lines.add(variant_id=product.default_variant_id, quantity=1)
        try:
            held = await reservations.hold(request)
        except ServiceError as refusal:
            return refusal.metadata["variant_id"]
        assert held.order_id == request.order_id
        return "HELD"

    return sorted(await asyncio.gather(*(order() for _ in range(count))))


@pytest.mark.parametrize("knows_batches", [True, False])
async def test_each_hears_of_its_own(shop: Shop, channel: Any, knows_batches: bool) -> None:
    scarce, plenty = await shop.product(stock=3), await shop.product(stock=50)
    catalogue = Catalogue(channel, knows_batches=knows_batches)
    heard = await hold(catalogue, [scarce, plenty], 10)
    assert heard == sorted(["HELD"] * 3 + [scarce.default_variant_id] * 7)
    assert await shop.stock(scarce) == (3, 3)
    assert await shop.stock(plenty) == (50, 3)
    assert "several" in catalogue.calls


async def test_the_first_asks_alone_and_those_that_wait_together(shop: Shop, channel: Any) -> None:
    plenty = await shop.product(stock=50)
    catalogue = Catalogue(channel)
    assert set(await hold(catalogue, [plenty], 1 + TOGETHER)) == {"HELD"}
    assert catalogue.calls == ["one", "several"]
    assert await shop.stock(plenty) == (50, 1 + TOGETHER)


async def test_long_orders_ask_alone(shop: Shop, channel: Any) -> None:
    products = [await shop.product(stock=50) for _ in range(FEW_LINES + 1)]
    catalogue = Catalogue(channel)
    assert set(await hold(catalogue, products, 4)) == {"HELD"}
    assert catalogue.calls == ["one"] * 4
    assert [await shop.stock(product) for product in products] == [(50, 4)] * len(products)
