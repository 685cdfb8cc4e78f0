"""E10: each service is down in turn, and only its own routes degrade."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from cli.topology import SERVICES
from tests.faults.traffic import calling, until
from tests.siege.report import Report
from tests.siege.shopping import Shopping
from tests.sizes import promised
from tests.visitors import Shop

# A cart shows prices of now, a payment whose order it is: they need these services, too.
NEEDS = {"cart": {"catalog"}, "payment": set[str]()}
REFUSED_SECONDS = 2.0
# Being down, and just coming or going.
MAY_SAY = {"DEPENDENCY_UNAVAILABLE", "INTERRUPTED", "DEADLINE_EXCEEDED"}
EYE_SECONDS = 0.05


@contextmanager
def down(shop: Shop, service: str) -> Iterator[None]:
    """Kill a service as often as it is started again."""

    async def keep_down() -> None:
        while True:
            process = await asyncio.to_thread(shop.up.find, f"services.{service}")
            if process is not None:
                process.send(signal.SIGKILL)
            await asyncio.sleep(EYE_SECONDS)

    task = asyncio.create_task(keep_down())
    try:
        yield
    finally:
        task.cancel()


async def darken(shop: Shop, report: Report, *, seconds: float) -> None:
    """Take each service down for so long, and call all of them meanwhile."""
    shopping = await Shopping.begin(shop)
    for service in SERVICES:
        async with AsyncExitStack() as stack:
            traffic = {
                name: await stack.enter_async_context(calling(ask, at_once=1, pause=0.02))
                for name, ask in shopping.reads.items()
            }
            for each in traffic.values():
                await each.more(3, 30)
            with down(shop, service):
                await asyncio.sleep(seconds)
        bad = {name: each.bad for name, each in traffic.items() if each.bad}
        counts = ", ".join(f"{name} {len(calls)}" for name, calls in bad.items())
        calls = sum(len(each.calls) for each in traffic.values())
        report.note(f"{service} down", f"{calls} calls; refused: {counts or 'none'}")
        may = {service} | {name for name, needs in NEEDS.items() if service in needs}
        degrade = {
            name: each.reasons for name, each in traffic.items() if each.harmed and name not in may
        }
        report.check(not degrade, f"{service} down: they degrade as well: {degrade}")
        report.check(service in bad, f"{service} was not down")
        for name in bad.keys() & may:
            said = traffic[name].reasons
            slowest = max(call.seconds for call in bad[name])
            report.check(said <= MAY_SAY, f"{service} down: {name} says {said - MAY_SAY}")
            report.check(
                slowest < promised(REFUSED_SECONDS),
                f"{service} down: {name} was refused after {slowest:.1f} s",
            )

        async def well() -> bool:
            return all([(await ask()).is_success for ask in shopping.reads.values()])

        report.note(f"{service} back, well after", f"{await until(well, 60):.1f} s")
