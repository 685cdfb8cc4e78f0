"""E8: Postgres is restarted and killed under load."""

from __future__ import annotations

import asyncio
import signal
import time

from tests.faults.inside import accepts, part
from tests.faults.traffic import paced, seen, until
from tests.siege.report import Report
from tests.siege.shopping import Shopping
from tests.sizes import promised
from tests.visitors import Shop

# The fast shutdown of Postgres, and none at all.
ENDS = {"restarted": signal.SIGINT, "killed": signal.SIGKILL}
BACK_SECONDS = 2.0
MAY_SAY = {"DEPENDENCY_UNAVAILABLE", "DEADLINE_EXCEEDED", "OVERLOADED", "no answer"}


async def fall(shop: Shop, report: Report, *, rate: float, seconds: float, times: int) -> None:
    """End Postgres so many times each way, `seconds` after one another."""
    shopping = await Shopping.begin(shop)
    async with (
        paced(shopping.reads["users"], rate * 0.5) as reads,
        paced(shopping.write(insist=False), rate * 0.5) as writes,
    ):
        for how, number in list(ENDS.items()) * times:
            await asyncio.sleep(seconds)
            postmaster = part(shop, "/postgres ")
            fell = time.monotonic()
            postmaster.send(number)
            await seen(lambda: shop.up.find("/postgres ") not in (None, postmaster), 30)  # noqa: B023
            again = time.monotonic()
            await until(lambda: accepts(shop), 30)
            back = time.monotonic()
            await reads.more(1, 30)
            await writes.more(1, 30)
            took = max(each.good_after(again)[0].ended for each in (reads, writes)) - back
            report.note(f"{how}: away for", f"{back - fell:.1f} s")
            report.note(f"{how}: good calls after its return", f"{max(took, 0.0):.2f} s")
            report.check(
                took < promised(BACK_SECONDS), f"{how}: no good call for {took:.1f} s after it"
            )
        await asyncio.sleep(seconds)
    for name, traffic in (("reads", reads), ("writes", writes)):
        report.note(name, f"{len(traffic.calls)}, failed: {len(traffic.bad)}")
        report.check(traffic.reasons <= MAY_SAY, f"{name} were told {traffic.reasons - MAY_SAY}")
    lost = await shopping.lost()
    acknowledged = sum(map(len, shopping.made.values()))
    report.note("acknowledged, lost", f"{acknowledged}, {len(lost)}")
    report.check(not lost, f"acknowledged, and not there: {sorted(lost)[:5]}")
