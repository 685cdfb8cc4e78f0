"""A catalogue served for the tests of this folder, empty at the start of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from services.catalog.handlers import CatalogService
from services.catalog.stock_handlers import StockService
from services.catalog.tables import metadata
from services.kit.db import Database
from shop.catalog.v1 import catalog_pb2_grpc, stock_pb2_grpc
from tests import running
from tests.callers import User
from tests.catalog.stockroom import Stockroom
from tests.running import Running


def servicers(database: Database) -> list[tuple[Any, Any]]:
    return [
        (catalog_pb2_grpc.add_CatalogServiceServicer_to_server, CatalogService(database)),
        (stock_pb2_grpc.add_StockServiceServicer_to_server, StockService(database)),
    ]


@pytest_asyncio.fixture(scope="session")
async def served(database_url: Callable[[str], str]) -> AsyncIterator[Running]:
    """The catalogue, for the whole run."""
    async with running.serving(database_url("catalog"), metadata, servicers) as catalog:
        yield catalog


@pytest.fixture
def catalog(served: Running, empty_database: None) -> catalog_pb2_grpc.CatalogServiceStub:
    """A stub of CatalogService, on an empty catalogue."""
    return catalog_pb2_grpc.CatalogServiceStub(served.channel)


@pytest.fixture
def stock(served: Running, empty_database: None) -> stock_pb2_grpc.StockServiceStub:
    """A stub of StockService, on an empty catalogue."""
    return stock_pb2_grpc.StockServiceStub(served.channel)


@pytest.fixture
def staff() -> User:
    """Somebody of the shop's staff."""
    return User("STAFF")


@pytest.fixture
def customer() -> User:
    """Somebody who buys."""
    return User("CUSTOMER")


@pytest.fixture
def shop(
    catalog: catalog_pb2_grpc.CatalogServiceStub,
    stock: stock_pb2_grpc.StockServiceStub,
    staff: User,
) -> Stockroom:
    """The catalogue as those use it who care for stock."""
    return Stockroom(catalog, stock, staff)
