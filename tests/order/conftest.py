"""A shop in the test's own process: orders, and the real services that they call, on free ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio

from services.cart import tables as cart_tables
from services.cart.catalogue import Catalogue
from services.cart.handlers import CartService, CheckoutService
from services.catalog import tables as catalog_tables
from services.catalog.handlers import CatalogService
from services.catalog.stock_handlers import StockService
from services.kit import clients
from services.kit.auth import ServiceCredential
from services.kit.db import Database
from services.kit.delivery import Letterhead, Mailbox
from services.order import tables as order_tables
from services.order.basket import Basket
from services.order.checkout import Checkout
from services.order.contacts import Contacts
from services.order.erasure_handlers import ErasureService
from services.order.faults import Faults
from services.order.follow_ups import FollowUps
from services.order.handlers import OrderService
from services.order.rate_handlers import RateService
from services.order.reservations import Reservations
from services.order.settlement_handlers import SettlementService
from services.order.sweeper import Sweeper
from services.order.watching import Watchers
from services.users import tables as user_tables
from services.users.handlers import DirectoryService, UserService
from services.users.passwords import Passwords
from shop.cart.v1 import cart_pb2_grpc, checkout_pb2_grpc
from shop.catalog.v1 import catalog_pb2_grpc, stock_pb2_grpc
from shop.order.v1 import erasure_pb2_grpc, order_pb2_grpc, rate_pb2_grpc, settlement_pb2_grpc
from shop.users.v1 import directory_pb2_grpc, users_pb2_grpc
from tests import callers, running
from tests.order.processes import users
from tests.order.shop import Parts, Shop
from tests.running import Running

__all__ = ["parts", "shop", "users"]


async def nobody_signs_out(caller: Any) -> Any:
    return caller


def of_users(database: Database) -> list[tuple[Any, Any]]:
    hashing = Passwords(iterations=1, memory_kib=64)
    return [
        (users_pb2_grpc.add_UserServiceServicer_to_server, UserService(database, hashing)),
        (directory_pb2_grpc.add_DirectoryServiceServicer_to_server, DirectoryService(database)),
    ]


def of_catalogue(database: Database) -> list[tuple[Any, Any]]:
    return [
        (catalog_pb2_grpc.add_CatalogServiceServicer_to_server, CatalogService(database)),
        (stock_pb2_grpc.add_StockServiceServicer_to_server, StockService(database)),
    ]


class Recorded:
    """A channel that notes the methods called on it."""

    def __init__(self, channel: grpc.aio.Channel, calls: list[str]) -> None:
        self._channel = channel
        self._calls = calls

    def unary_unary(self, path: str, *arguments: Any, **options: Any) -> Any:
        method = self._channel.unary_unary(path, *arguments, **options)

        def call(*given: Any, **named: Any) -> Any:
            self._calls.append(path.rpartition("/")[2])
            return method(*given, **named)

        return call


@pytest_asyncio.fixture(scope="session")
async def parts(
    database_url: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Parts]:
    """All services, for the whole run."""
    async with AsyncExitStack() as stack:
        calls: list[str] = []

        async def reach(served: Running) -> Any:
            credential = ServiceCredential("order", callers.SECRET)
            channel = clients.connect(
                f"127.0.0.1:{served.port}", credential, seconds=running.PATIENCE_SECONDS
            )
            return Recorded(await stack.enter_async_context(channel), calls)

        users = await stack.enter_async_context(
            running.serving(
                database_url("users"),
                user_tables.metadata,
                of_users,
                check_session=nobody_signs_out,
            )
        )
        catalogue = await stack.enter_async_context(
            running.serving(database_url("catalog"), catalog_tables.metadata, of_catalogue)
        )
        stock = stock_pb2_grpc.StockServiceStub(await reach(catalogue))

        def of_carts(database: Database) -> list[tuple[Any, Any]]:
            variants = Catalogue(stock)
            return [
                (
                    cart_pb2_grpc.add_CartServiceServicer_to_server,
                    CartService(database, variants),
                ),
                (
                    checkout_pb2_grpc.add_CheckoutServiceServicer_to_server,
                    CheckoutService(database, variants),
                ),
            ]

        carts = await stack.enter_async_context(
            running.serving(database_url("cart"), cart_tables.metadata, of_carts)
        )
        mailbox = tmp_path_factory.mktemp("mailbox")
        user_channel = await reach(users)
        user_stub = users_pb2_grpc.UserServiceStub(user_channel)
        directory_stub = directory_pb2_grpc.DirectoryServiceStub(user_channel)
        cart_stub = checkout_pb2_grpc.CheckoutServiceStub(await reach(carts))
        background: list[Any] = []

        def of_orders(database: Database) -> list[tuple[Any, Any]]:
            basket = Basket(database, user_stub, Contacts(directory_stub), cart_stub)
            checkout = Checkout(
                database,
                basket,
                Reservations(stock),
                payment_time=timedelta(minutes=15),
                faults=Faults(),
            )
            watchers = Watchers(database, most=20, heartbeat_seconds=0.2, longest_seconds=4)
            background.extend(
                (
                    FollowUps(
                        database,
                        basket=basket,
                        stock=stock,
                        closures=None,
                        delivery=Mailbox(mailbox),
                        letterhead=Letterhead("Shop <shop@example.com>", "http://shop.example"),
                    ),
                    Sweeper(database, checkout, left_after=timedelta(0)),
                    watchers,
                )
            )
            return [
                (
                    order_pb2_grpc.add_OrderServiceServicer_to_server,
                    OrderService(database, checkout, watchers, Faults()),
                ),
                (
                    settlement_pb2_grpc.add_SettlementServiceServicer_to_server,
                    SettlementService(database, Faults()),
                ),
                (rate_pb2_grpc.add_RateServiceServicer_to_server, RateService(database)),
                (
                    erasure_pb2_grpc.add_ErasureServiceServicer_to_server,
                    ErasureService(database),
                ),
            ]

        orders = await stack.enter_async_context(
            running.serving(database_url("order"), order_tables.metadata, of_orders)
        )
        follow_ups, sweeper, watchers = background
        listening = asyncio.create_task(watchers.listen())
        relay = follow_ups.relay()
        yield Parts(users, catalogue, carts, orders, relay, sweeper, watchers, mailbox, calls)
        listening.cancel()


@pytest_asyncio.fixture
async def shop(
    parts: Parts, owner_connection: asyncpg.Connection, empty_database: None
) -> AsyncIterator[Shop]:
    """A shop that ships everywhere for nothing, in euros; nothing else is in it."""
    made = Shop(parts, owner_connection)
    await made.ship("EUR", 0)
    yield made
    for mail in Path(parts.mailbox).glob("*.eml"):
        mail.unlink()
