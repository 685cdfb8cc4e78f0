"""Many stories, some at a time, told to one shop."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterable

import grpc

from tests.fuzz.story import Doors, Story, Told
from tests.visitors import Shop

AT_ONCE = 4


@contextlib.asynccontextmanager
async def doors(shop: Shop) -> AsyncIterator[Doors]:
    """The ways into a shop."""
    secrets = [
        (shop.up.data / "secrets" / name).read_text().strip()
        for name in ("service", "stripe-webhook")
    ]
    async with contextlib.AsyncExitStack() as stack:
        channels = {
            name: await stack.enter_async_context(grpc.aio.insecure_channel(address))
            for name, address in shop.ready.services.items()
        }
        yield Doors(shop, channels, *secrets)


async def tell(shop: Shop, seed: int, numbers: Iterable[int], until: float = float("inf")) -> Told:
    """Tell these stories; none is begun after `until` (of the monotonic clock)."""
    told = Told()
    stories = iter(numbers)

    async def work(doors: Doors) -> None:
        for number in stories:
            if time.monotonic() > until:
                return
            await shop.renew()
            await Story(doors, seed, number).tell(told)

    async with doors(shop) as ways, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work(ways))
    return told


def faults(log: str) -> list[str]:
    """Errors of the services' own making that they have logged; bad news of money is none."""
    errors = re.findall(r'.*"level": "(?:error|critical)".*', log)
    return [line for line in errors if '"source": "payments"' not in line]
