"""The payment service as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc

from cli.forks import Forked
from cli.probes import is_serving
from cli.topology import Address, free_port
from services.payment.__main__ import Settings
from tests import callers
from tests.forked import Nursery, end


class PaymentProcess:
    """`python -m services.payment`, spoken to over gRPC."""

    def __init__(self, process: Forked, address: Address) -> None:
        self.process = process
        self.address = address
        self.channel = grpc.aio.insecure_channel(str(address))

    @classmethod
    async def start(cls, nursery: Nursery, environment: dict[str, str]) -> PaymentProcess:
        """It serves in a moment."""
        address = Address("127.0.0.1", free_port())
        told = {**environment, "SHOP_PAYMENT_LISTEN": str(address)}
        return cls(await nursery.fork("payment", told), address)

    async def ready(self) -> None:
        """Wait until it serves."""
        async with asyncio.timeout(60):
            while not await is_serving(self.address):
                assert self.process.returncode is None, "it did not start"
                await asyncio.sleep(0.02)

    async def ended(self) -> int:
        """Wait for its end; its exit status, negative for a signal."""
        return await asyncio.wait_for(self.process.wait(), 60)


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """The settings of the service under test, as a process reads them."""
    return {
        "SHOP_PAYMENT_DATABASE_URL": settings.database_url,
        "SHOP_SERVICE_SECRET": callers.SECRET,
        "SHOP_USERS_ADDRESS": settings.users_address,
        "SHOP_ORDER_ADDRESS": settings.order_address,
        "SHOP_STRIPE_SECRET_KEY": settings.stripe_secret_key,
        "SHOP_STRIPE_WEBHOOK_SECRET": settings.stripe_webhook_secret,
        "SHOP_STRIPE_BASE_URL": settings.stripe_base_url,
        "SHOP_PAYMENT_GATEWAY_SECONDS": "3",
        **more,
    }


@contextlib.asynccontextmanager
async def running(
    nursery: Nursery, settings: Settings, **more: str
) -> AsyncIterator[PaymentProcess]:
    """The service in a process of its own; it is killed at the end, if it still lives."""
    process = await PaymentProcess.start(nursery, environment(settings, **more))
    try:
        await process.ready()
        yield process
    finally:
        await end(process.process)
        await process.channel.close()
