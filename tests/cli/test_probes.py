"""The questions that the supervisor asks."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from cli.probes import http_status, is_serving
from cli.topology import LOOPBACK, Address, free_port
from tests.shop import command


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[Address, health.aio.HealthServicer]]:
    made = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, made)
    port = made.add_insecure_port(f"{LOOPBACK}:0")
    await made.start()
    yield Address(LOOPBACK, port), servicer
    await made.stop(0)


async def test_a_healthy_server_serves(
    server: tuple[Address, health.aio.HealthServicer],
) -> None:
    assert await is_serving(server[0])


@pytest.mark.parametrize(
    "status", [HealthCheckResponse.NOT_SERVING, HealthCheckResponse.SERVICE_UNKNOWN]
)
async def test_a_server_that_says_otherwise_does_not(
    server: tuple[Address, health.aio.HealthServicer], status: int
) -> None:
    await server[1].set("", status)
    assert not await is_serving(server[0])


async def test_a_server_without_health_does_not() -> None:
    bare = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    port = bare.add_insecure_port(f"{LOOPBACK}:0")
    await bare.start()
    assert not await is_serving(Address(LOOPBACK, port))
    await bare.stop(0)


@pytest.mark.parametrize("healthy", [True, False])
async def test_a_containers_health_check_tells_by_its_status(
    server: tuple[Address, health.aio.HealthServicer], healthy: bool
) -> None:
    if not healthy:
        await server[1].set("", HealthCheckResponse.NOT_SERVING)
    done = await command(sys.executable, "-m", "cli.probes", str(server[0]))
    assert (done.returncode == 0) == healthy, done.stderr


async def test_nobody_there_is_no_answer() -> None:
    nobody = Address(LOOPBACK, free_port())
    assert not await is_serving(nobody)
    assert await http_status(nobody, "/") is None
