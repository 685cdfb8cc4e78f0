"""Carts served for the tests of this folder, with the real catalogue behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from google.type.money_pb2 import Money

from services.cart import tables as cart_tables
from services.cart.catalogue import Catalogue
from services.cart.handlers import CartService, CheckoutService, ErasureService
from services.catalog import tables as catalog_tables
from services.catalog.handlers import CatalogService
from services.catalog.stock_handlers import StockService
from services.kit import clients
from services.kit.auth import ServiceCredential
from services.kit.db import Database
from shop.cart.v1 import cart_pb2_grpc, checkout_pb2_grpc, erasure_pb2_grpc
from shop.catalog.v1 import catalog_pb2_grpc, stock_pb2_grpc
from shop.catalog.v1.catalog_pb2 import CreateProductRequest, Product
from tests import callers, running
from tests.callers import Metadata, User
from tests.running import Running

EUR = "EUR"


def of_catalogue(database: Database) -> list[tuple[Any, Any]]:
    return [
        (catalog_pb2_grpc.add_CatalogServiceServicer_to_server, CatalogService(database)),
        (stock_pb2_grpc.add_StockServiceServicer_to_server, StockService(database)),
    ]


@pytest_asyncio.fixture(scope="session")
async def catalogue_served(database_url: Callable[[str], str]) -> AsyncIterator[Running]:
    """The catalogue, for the whole run."""
    url = database_url("catalog")
    async with running.serving(url, catalog_tables.metadata, of_catalogue) as catalogue:
        yield catalogue


@pytest_asyncio.fixture(scope="session")
async def served(
    database_url: Callable[[str], str], catalogue_served: Running
) -> AsyncIterator[Running]:
    """Carts, for the whole run."""
    credential = ServiceCredential("cart", callers.SECRET)
    async with clients.connect(
        f"127.0.0.1:{catalogue_served.port}", credential, seconds=running.PATIENCE_SECONDS
    ) as channel:
        catalogue = Catalogue(stock_pb2_grpc.StockServiceStub(channel))

        def of_cart(database: Database) -> list[tuple[Any, Any]]:
            return [
                (
                    cart_pb2_grpc.add_CartServiceServicer_to_server,
                    CartService(database, catalogue),
                ),
                (
                    checkout_pb2_grpc.add_CheckoutServiceServicer_to_server,
                    CheckoutService(database, catalogue),
                ),
                (
                    erasure_pb2_grpc.add_ErasureServiceServicer_to_server,
                    ErasureService(database),
                ),
            ]

        async with running.serving(database_url("cart"), cart_tables.metadata, of_cart) as carts:
            yield carts


@pytest.fixture
def carts(served: Running, empty_database: None) -> cart_pb2_grpc.CartServiceStub:
    """A stub of CartService, with no carts yet."""
    return cart_pb2_grpc.CartServiceStub(served.channel)


@pytest.fixture
def checkout(served: Running, empty_database: None) -> checkout_pb2_grpc.CheckoutServiceStub:
    """A stub of CheckoutService."""
    return checkout_pb2_grpc.CheckoutServiceStub(served.channel)


@dataclass
class Shelf:
    """The catalogue, for tests that need something to buy."""

    catalog: catalog_pb2_grpc.CatalogServiceStub
    staff: Metadata

    async def put(self, name: str, price: int = 10, stock: int = 100, **fields: Any) -> Product:
        """A product of one variant; `price` in whole units."""
        currency = fields.pop("currency", EUR)
        request = CreateProductRequest(
            name=name, price=Money(currency_code=currency, units=price), stock=stock, **fields
        )
        return await self.catalog.CreateProduct(request, metadata=self.staff)


@pytest.fixture
def shelf(catalogue_served: Running, empty_database: None) -> Shelf:
    """An empty catalogue to put products into."""
    stub = catalog_pb2_grpc.CatalogServiceStub(catalogue_served.channel)
    return Shelf(stub, User("STAFF")())


@pytest.fixture
def customer() -> User:
    """Somebody who buys."""
    return User("CUSTOMER")


def guest(token: str) -> Metadata:
    """The metadata of a guest's call."""
    return (("x-cart-token", token),)


def euros(units: int) -> Money:
    return Money(currency_code=EUR, units=units)
