"""E4: one of two processes of each service is killed, then all are restarted in turn."""

from __future__ import annotations

import asyncio

from cli.topology import SERVICES
from tests.faults import replicas
from tests.faults.traffic import Traffic, paced
from tests.siege.report import Report, percentile
from tests.siege.shopping import Shopping
from tests.visitors import Shop

READS, WRITES = 0.75, 0.25
MOST_FAILED = 0.001


async def kill(shop: Shop, report: Report, *, rate: float, seconds: float) -> None:
    """Kill one process of each service in turn, at `rate` calls a second, `seconds` for each."""
    shopping = await Shopping.begin(shop)
    async with paced(shopping.read(), rate * READS) as before:
        await asyncio.sleep(2 * seconds)
    _note(report, "before: reads", before)
    async with (
        paced(shopping.read(), rate * READS) as reads,
        paced(shopping.write(insist=True), rate * WRITES) as writes,
    ):
        for service in SERVICES:
            await asyncio.sleep(seconds / 2)
            await replicas.killed(shop, service)
            await asyncio.sleep(seconds / 2)
    _note(report, "killed: reads", reads)
    _note(report, "killed: keyed writes", writes)
    failed = [call.reason for call in reads.bad]
    report.check(
        len(failed) <= MOST_FAILED * len(reads.calls),
        f"{len(failed)} of {len(reads.calls)} reads failed: {sorted(set(failed))}",
    )
    report.check(not writes.bad, f"keyed writes failed: {writes.reasons}")
    await _end(shop, report, shopping)


async def roll(shop: Shop, report: Report, *, rate: float, seconds: float) -> None:
    """Restart all processes in turn: no call fails, though nobody repeats any."""
    shopping = await Shopping.begin(shop)
    async with (
        paced(shopping.read(), rate * READS) as reads,
        paced(shopping.write(insist=False), rate * WRITES) as writes,
    ):
        for turn in replicas.turns(shop):
            await asyncio.sleep(seconds / 2)
            await replicas.restarted(shop, turn)
        await asyncio.sleep(seconds / 2)
    for name, traffic in (("reads", reads), ("writes", writes)):
        _note(report, f"restarted: {name}", traffic)
        report.check(not traffic.bad, f"{len(traffic.bad)} {name} failed: {traffic.reasons}")
    await _end(shop, report, shopping)


def _note(report: Report, what: str, traffic: Traffic) -> None:
    times = [call.seconds for call in traffic.calls if call.is_good]
    report.note(what, f"{len(traffic.calls)}, failed: {len(traffic.bad)}")
    report.note(
        f"{what}, p50 and p99",
        f"{percentile(times, 50) * 1000:.0f} ms, {percentile(times, 99) * 1000:.0f} ms",
    )


async def _end(shop: Shop, report: Report, shopping: Shopping) -> None:
    lost = await shopping.lost()
    report.check(not lost, f"acknowledged, and not there: {sorted(lost)[:5]}")
    await replicas.verified(shop)
