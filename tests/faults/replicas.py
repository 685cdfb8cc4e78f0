"""A shop with two processes of every service, and what is done to them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx

from cli.probes import is_serving
from cli.topology import SERVICES, Address
from services.kit.ids import uuid7
from tests.faults.inside import audit, connected
from tests.faults.traffic import Ask, seen, until
from tests.shop import SHOP, Process, command, running
from tests.sizes import promised
from tests.visitors import Shop, visiting

REPLICAS = 2
# Of a keyed call: whoever repeats it like that has it done, once.
ATTEMPTS = 5


@contextlib.asynccontextmanager
async def doubled(folder: Path, **told: str) -> AsyncIterator[Shop]:
    """A shop with two processes of each service."""
    more = ("--port", "0", "--replicas", str(REPLICAS))
    async with running(folder, *more, **told) as up, visiting(up) as shop:
        yield shop


def workers(shop: Shop, service: str) -> list[Process]:
    """The processes of a service."""
    return [each for each in shop.up.kept() if f"services.{service} " in f"{each.command} "]


async def whole(shop: Shop, *services: str) -> None:
    """Wait until all processes of these services are there, and ready."""
    places = [
        Address(*_parts(at))
        for name, at in shop.ready.services.items()
        if name.partition("-")[0] in services
    ]
    assert len(places) == REPLICAS * len(services)

    async def ready() -> bool:
        await asyncio.sleep(0.5)  # each look opens connections
        return all([await is_serving(place) for place in places])

    await until(ready, promised(15))


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


async def killed(shop: Shop, service: str) -> None:
    """Kill one of a service's processes, and wait until there are two again."""
    victim, other = workers(shop, service)
    victim.send(signal.SIGKILL)

    def replaced() -> bool:
        now = workers(shop, service)
        return len(now) == REPLICAS and victim not in now

    await seen(replaced, promised(15))
    await whole(shop, service)
    assert other in workers(shop, service)


def turns(shop: Shop) -> list[list[Process]]:
    """One process of every service, then the other of each."""
    return [list(turn) for turn in zip(*(workers(shop, each) for each in SERVICES), strict=True)]


async def restarted(shop: Shop, old: Sequence[Process]) -> None:
    """Ask these processes to end, and wait until all services are whole again."""
    for process in old:
        process.send(signal.SIGTERM)

    def replaced() -> bool:
        ended = not any(process.is_alive for process in old)
        return ended and all(len(workers(shop, each)) == REPLICAS for each in SERVICES)

    await seen(replaced, promised(30))
    await whole(shop, *SERVICES)


async def verified(shop: Shop) -> None:
    """Whatever happened, the data is as it has to be."""
    said = await command(SHOP, "verify", "--data", shop.up.data)
    assert said.returncode == 0, said.stdout + said.stderr
    async with connected(shop) as database:
        assert await audit(database) == []


async def insisting(ask: Ask) -> httpx.Response:
    """A call that is repeated until it is done, as clients do who have a key."""
    for attempt in range(ATTEMPTS):
        with contextlib.suppress(httpx.TransportError):
            answer = await ask()
            if answer.is_success:
                return answer
        await asyncio.sleep(0.1 * 2**attempt)
    return answer


def new_key() -> str:
    """One that nobody has used. It can be a SKU, too."""
    return f"KEY-{uuid7().hex}"
