"""The order service as a process of its own, with the other services in the test's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest_asyncio

from cli.forks import Forked
from cli.probes import is_serving
from cli.topology import Address, free_port
from services.kit.db import Database
from services.users import __main__ as users_wiring
from services.users.tables import metadata as user_tables
from shop.order.v1.order_pb2_grpc import OrderServiceStub
from shop.order.v1.settlement_pb2_grpc import SettlementServiceStub
from shop.users.v1.users_pb2 import CreateUserRequest, LoginRequest
from shop.users.v1.users_pb2_grpc import AuthServiceStub, UserServiceStub
from tests import callers
from tests.forked import Nursery, end
from tests.order.shop import Shop
from tests.users import signing_keys

PASSWORD = "correct horse battery staple"


@dataclass
class Users:
    """The users service, as it runs: its tokens are good for another process."""

    port: int
    channel: grpc.aio.Channel

    async def sign_up(self) -> tuple[str, str]:
        """The id of somebody new, and an access token."""
        email = callers.new_email()
        await UserServiceStub(self.channel).CreateUser(
            CreateUserRequest(email=email, password=PASSWORD)
        )
        grant = await AuthServiceStub(self.channel).Login(
            LoginRequest(email=email, password=PASSWORD)
        )
        return grant.user.id, grant.access_token


class OrderProcess:
    """`python -m services.order`, spoken to over gRPC."""

    def __init__(self, process: Forked, address: Address) -> None:
        self.process = process
        self.address = address
        self.channel = grpc.aio.insecure_channel(str(address))
        self.orders = OrderServiceStub(self.channel)
        self.settlement = SettlementServiceStub(self.channel)

    @classmethod
    async def start(cls, nursery: Nursery, environment: dict[str, str]) -> OrderProcess:
        """It serves in a moment."""
        address = Address("127.0.0.1", free_port())
        told = {**environment, "SHOP_ORDER_LISTEN": str(address)}
        return cls(await nursery.fork("order", told), address)

    async def ready(self) -> None:
        """Wait until it serves."""
        async with asyncio.timeout(60):
            while not await is_serving(self.address):
                assert self.process.returncode is None, "it did not start"
                await asyncio.sleep(0.02)

    async def ended(self) -> int:
        """Wait for its end; its exit status, negative for a signal."""
        return await asyncio.wait_for(self.process.wait(), 60)


def environment(shop: Shop, users_port: int, url: str, **more: str) -> dict[str, str]:
    """The settings of the order service, between the services of `shop`."""
    return {
        "SHOP_ORDER_DATABASE_URL": url,
        "SHOP_SERVICE_SECRET": callers.SECRET,
        "SHOP_USERS_ADDRESS": f"127.0.0.1:{users_port}",
        "SHOP_CATALOG_ADDRESS": f"127.0.0.1:{shop.parts.catalogue.port}",
        "SHOP_CART_ADDRESS": f"127.0.0.1:{shop.parts.carts.port}",
        "SHOP_ORDER_MAILBOX": str(shop.parts.mailbox),
        "SHOP_ORDER_LEFT_SECONDS": "0.5",
        **more,
    }


@contextlib.asynccontextmanager
async def running(
    nursery: Nursery, shop: Shop, users: Users, url: str, **more: str
) -> AsyncIterator[OrderProcess]:
    """The order service in a process of its own; it is killed at the end, if it still lives."""
    process = await OrderProcess.start(nursery, environment(shop, users.port, url, **more))
    try:
        await process.ready()
        yield process
    finally:
        await end(process.process)
        await process.channel.close()


@pytest_asyncio.fixture
async def users(database_url: Callable[[str], str], tmp_path: Path) -> AsyncIterator[Users]:
    """The users service, for one test."""
    signing_keys.write(tmp_path / "1.pem")
    url = database_url("users")
    settings = users_wiring.Settings.load(
        database_url=url,
        listen="127.0.0.1:0",
        service_secret=callers.SECRET,
        signing_keys=tmp_path,
        mailbox=tmp_path,
        argon2_iterations=1,
        argon2_memory_kib=64,
        drain_seconds=0.1,
    )
    database = await Database.open(url, user_tables, name="tests")
    server = users_wiring.build(settings, database)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Users(server.port, channel)
    await server.stop()
    await database.close()
