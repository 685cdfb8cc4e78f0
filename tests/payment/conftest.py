"""Payments served for the tests of this folder, with the Stripe sandbox behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import asyncpg
import grpc
import pytest
import pytest_asyncio

from services.kit.db import Database
from services.kit.server import Server
from services.payment import breaker
from services.payment.__main__ import Settings, build
from services.payment.tables import metadata
from shop.payment.v1 import closure_pb2_grpc, payment_pb2_grpc
from tests import callers
from tests.payment import neighbours
from tests.payment.neighbours import Orders, Users
from tests.payment.till import Till
from tests.sandbox.running import Sandbox


@dataclass
class Around:
    """The order and users services."""

    orders: Orders
    users: Users
    server: Server

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"


@pytest.fixture(scope="session")
def sandbox_started() -> Iterator[Sandbox]:
    """Stripe's sandbox, for the whole run."""
    sandbox = Sandbox()
    yield sandbox
    sandbox.stop()


@pytest_asyncio.fixture(scope="session")
async def around() -> AsyncIterator[Around]:
    """The services that payments know, for the whole run."""
    orders, users = Orders(), Users()  # type: ignore[abstract]
    server = await neighbours.serve(orders, users)
    yield Around(orders, users, server)
    await server.stop()


@pytest.fixture(scope="session")
def settings(
    database_url: Callable[[str], str], around: Around, sandbox_started: Sandbox
) -> Settings:
    """Settings of the service under test."""
    return Settings.load(
        database_url=database_url("payment"),
        listen="127.0.0.1:0",
        service_secret=callers.SECRET,
        users_address=around.address,
        order_address=around.address,
        stripe_secret_key="sk_test_tests",
        stripe_webhook_secret="whsec_new,whsec_old",
        repeat_seconds=2.0,
        stripe_base_url=sandbox_started.url,
        gateway_seconds=3.0,
        drain_seconds=0.5,
    )


@pytest_asyncio.fixture(scope="module")
async def served(settings: Settings) -> AsyncIterator[grpc.aio.Channel]:
    """The service, for the tests of a file: others run it as processes of their own."""
    database = await Database.open(settings.database_url, metadata, name="tests", connections=20)
    server = build(settings, database)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel
    await server.stop()
    await database.close()


@pytest.fixture
def empty_sandbox(sandbox_started: Sandbox) -> Sandbox:
    """There are no payments at Stripe when the test begins."""
    sandbox_started.reset()
    return sandbox_started


@pytest_asyncio.fixture
async def open_till(
    settings: Settings,
    around: Around,
    empty_sandbox: Sandbox,
    owner_connection: asyncpg.Connection,
    empty_database: None,
) -> Callable[[grpc.aio.Channel], Till]:
    """Payments of which there are none when the test begins, here and at Stripe.

    At Stripe first: the service that walks there would meet charges of which nothing is known here.
    """
    around.orders.sold.clear()
    around.orders.is_away = False
    around.users.ended.clear()
    while next(iter(breaker.OPEN.collect())).samples[0].value:  # of what the last test did
        await asyncio.sleep(0.05)

    def open_at(channel: grpc.aio.Channel) -> Till:
        return Till(
            payment_pb2_grpc.PaymentServiceStub(channel),
            closure_pb2_grpc.ClosureServiceStub(channel),
            around.orders,
            around.users,
            empty_sandbox,
            owner_connection,
            settings,
        )

    return open_at


@pytest.fixture
def till(served: grpc.aio.Channel, open_till: Callable[[grpc.aio.Channel], Till]) -> Till:
    """The service in this process."""
    return open_till(served)
