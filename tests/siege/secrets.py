"""The services' secret is replaced under load, and the old one is closed."""

from __future__ import annotations

import asyncio
import secrets

import grpc

from cli.data_folder import DataFolder
from services.kit.auth import SERVICE_HEADER, ServiceCredential
from services.kit.ids import uuid7
from shop.catalog.v1 import stock_pb2, stock_pb2_grpc
from tests.faults import replicas
from tests.faults.traffic import paced
from tests.siege.report import Report
from tests.siege.shopping import Shopping
from tests.visitors import Shop


async def replace(shop: Shop, report: Report, *, rate: float, seconds: float) -> None:
    """Take the three steps of docs/operating.md, while `rate` calls a second are made."""
    file = DataFolder(shop.up.data).service_secret
    old, new = file.read_text().strip(), secrets.token_hex(32)
    shopping = await Shopping.begin(shop)
    async with (
        paced(shopping.read(), rate * 0.75) as reads,
        paced(shopping.write(insist=False), rate * 0.25) as writes,
    ):
        for step in (f"{old},{new}", f"{new},{old}", new):
            file.write_text(step)
            for turn in replicas.turns(shop):
                await asyncio.sleep(seconds / 2)
                await replicas.restarted(shop, turn)
            taken = [await _is_taken(shop, secret) for secret in (old, new)]
            report.note("old and new secret are taken", f"{taken[0]}, {taken[1]}")
            report.check(taken == [old in step, new in step], "a secret is taken that must not be")
        await asyncio.sleep(seconds / 2)
    for name, traffic in (("reads", reads), ("writes", writes)):
        report.note(name, f"{len(traffic.calls)}, failed: {len(traffic.bad)}")
        report.check(not traffic.bad, f"{len(traffic.bad)} {name} failed: {traffic.reasons}")
    lost = await shopping.lost()
    report.check(not lost, f"acknowledged, and not there: {sorted(lost)[:5]}")
    await replicas.verified(shop)


async def _is_taken(shop: Shop, secret: str) -> bool:
    """Whether an internal method lets in a service with this secret."""
    credential = ((SERVICE_HEADER, ServiceCredential("order", secret).token()),)
    async with grpc.aio.insecure_channel(shop.ready.services["catalog"]) as channel:
        stub = stock_pb2_grpc.StockServiceStub(channel)
        asked = stock_pb2.BatchGetVariantsRequest(variant_ids=[str(uuid7())])
        try:
            await stub.BatchGetVariants(asked, metadata=credential)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                return False
            raise
    return True
