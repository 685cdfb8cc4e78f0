"""Envoy as it runs, in front of services that keep what they were asked."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from cli import edge
from cli.edge_options import EdgeOptions
from cli.topology import LOOPBACK, SERVICES, Address, free_port
from shop.users.v1 import users_pb2
from tests.edge.access_tokens import Key, bearer
from tests.edge.backend import Backend, load_contract

PATIENCE_SECONDS = 60.0
UNLIMITED = EdgeOptions(rate=None, strict_rate=None, access_log="errors")

# Not a preexec_fn: a fork of a process in which gRPC runs does not live to the exec.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
os.execv(sys.argv[1], sys.argv[1:])
"""


@dataclass
class Shop:
    """A running edge, what is behind it, and ways to call it."""

    edge: edge.Edge
    envoy: subprocess.Popen[bytes]
    backends: dict[str, Backend]
    key: Key
    http: httpx.AsyncClient
    channel: grpc.aio.Channel
    log: Path

    @property
    def users(self) -> Backend:
        """The users service."""
        return self.backends["users"]

    @property
    def catalog(self) -> Backend:
        """The catalog service."""
        return self.backends["catalog"]

    @property
    def signed_in(self) -> dict[str, str]:
        """Header of a signed-in user."""
        return bearer(self.key.token())

    async def rest(self, verb: str, path: str | bytes, **parts: Any) -> httpx.Response:
        """A REST call; the path goes out as it stands."""
        raw = path.encode() if isinstance(path, str) else path
        host, port = self.edge.listen.host, self.edge.listen.port
        url = httpx.URL(scheme="http", host=host, port=port, raw_path=raw)
        return await self.http.request(verb, url, **parts)

    async def grpc(
        self,
        path: str,
        request: bytes = b"",
        headers: dict[str, str] | None = None,
        seconds: float | None = None,
    ) -> bytes:
        """A native gRPC call of serialized messages."""
        method: Any = self.channel.unary_unary(path)
        metadata = tuple((headers or {}).items())
        answer: bytes = await method(request, metadata=metadata, timeout=seconds)
        return answer

    async def keys_arrive(self) -> None:
        """Wait until Envoy checks tokens by itself."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (
                await self.rest("GET", "/api/users", headers=self.signed_in)
            ).status_code != httpx.codes.OK:
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    *,
    start: tuple[str, ...] = SERVICES,
    jwks_cache: int = 60,
    web: Path | None = None,
    options: EdgeOptions = UNLIMITED,
) -> AsyncIterator[Shop]:
    """An edge with routes to all services of today, of which `start` are up, maybe with pages."""
    load_contract()
    services = {name: (Address(LOOPBACK, free_port()),) for name in SERVICES}
    chosen = edge.Edge(
        Address(LOOPBACK, free_port()),
        Address(LOOPBACK, free_port()),
        services,
        watch=Address(LOOPBACK, free_port()),
        web=web,
        options=replace(options, jwks_cache=jwks_cache),
    )
    key = Key.make("key-1")
    backends = {name: Backend() for name in services}

    async def publish(request: Any, context: Any) -> users_pb2.JsonWebKeySet:
        return users_pb2.JsonWebKeySet(keys=[key.jwk])

    backends["users"].answers["GetJwks"] = publish
    configuration = folder / "envoy.yaml"
    configuration.write_text(edge.render(chosen))
    log = folder / "envoy.log"
    async with contextlib.AsyncExitStack() as stack:
        # Whatever fails, a server that runs is stopped: nothing may be left to the collector of
        # garbage, for which there is no event loop any more.
        for backend in backends.values():
            stack.push_async_callback(backend.stop)
        for name in start:
            await backends[name].start(services[name][0].port)
        envoy = _start(configuration, log)
        stack.push_async_callback(_end, envoy)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=15))
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(str(chosen.listen)),
        )
        await _listening(chosen.listen, envoy, log)
        shop = Shop(chosen, envoy, backends, key, http, channel, log)
        if "users" in start:
            await shop.keys_arrive()
        for backend in backends.values():
            backend.forget()
        yield shop


async def _end(envoy: subprocess.Popen[bytes]) -> None:
    envoy.terminate()
    try:
        await asyncio.to_thread(envoy.wait, PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        envoy.kill()
        envoy.wait()


def _start(configuration: Path, log: Path) -> subprocess.Popen[bytes]:
    command: list[str | Path] = [
        edge.envoy_binary(),
        "--config-path",
        configuration,
        *edge.ARGUMENTS,
    ]
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-c", _DIE_WITH_PARENT, *command],
            stdout=output,
            stderr=subprocess.STDOUT,
        )


async def _listening(address: Address, envoy: subprocess.Popen[bytes], log: Path) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            assert envoy.poll() is None, log.read_text()
            try:
                _, writer = await asyncio.open_connection(address.host, address.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return


@pytest.fixture(scope="session")
async def _one_shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    async with running(tmp_path_factory.mktemp("edge")) as shop:
        yield shop


@pytest.fixture
def shop(_one_shop: Shop) -> Shop:
    """The edge that tests share; its services have forgotten earlier tests."""
    for backend in _one_shop.backends.values():
        backend.forget()
    return _one_shop
