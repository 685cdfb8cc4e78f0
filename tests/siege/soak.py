"""E12: hours of moderate load, and what processes hold stays what it was."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import SERVICES, name_of
from tests.faults.traffic import paced
from tests.shop import Process
from tests.siege.report import Report
from tests.siege.shopping import Shopping
from tests.visitors import Shop

SAMPLE_SECONDS = 5.0
# Tokens live for ten minutes.
TOKEN_SECONDS = 240.0
# Of a run, at both of whose ends so much is looked at; what comes before is warming up.
FROM, SHARE = 0.5, 0.125
LEAST_BYTES, LEAST_SHARE = 4e6, 0.03
MORE_DESCRIPTORS = 10
# Postgres's backends come and go, and the sandbox keeps all payments.
WATCHED = {*SERVICES, "Envoy"}


@dataclass
class Samples:
    """What one process held, sample by sample."""

    name: str = ""
    bytes: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def add(self, name: str, rss: int, descriptors: int) -> None:
        """A sample more."""
        self.name = name
        self.bytes.append(rss)
        self.descriptors.append(descriptors)


def held(process: Process) -> tuple[int, int]:
    """Resident bytes and open descriptors. Raises OSError when it has ended."""
    folder = Path(f"/proc/{process.pid}")
    pages = int((folder / "statm").read_text().split()[1])
    return pages * 4096, len(list((folder / "fd").iterdir()))


async def soak(shop: Shop, report: Report, *, rate: float, seconds: float) -> None:
    """Ask for `rate` calls a second, and look at the processes all the time."""
    shopping = await Shopping.begin(shop)
    found: dict[int, Samples] = defaultdict(Samples)
    signed, ends = time.monotonic(), time.monotonic() + seconds
    async with (
        paced(shopping.read(), rate * 0.8) as reads,
        paced(shopping.write(insist=False), rate * 0.2) as writes,
    ):
        while time.monotonic() < ends:
            await asyncio.sleep(min(SAMPLE_SECONDS, seconds / 50))
            for process in await asyncio.to_thread(shop.up.processes):
                if (name := name_of(process)) in WATCHED:
                    rss, descriptors = held(process)
                    found[process.pid].add(name, rss, descriptors)
            if time.monotonic() - signed > TOKEN_SECONDS:
                shopping.ada.token = (await shopping.ada.again()).token
                await shop.renew()
                signed = time.monotonic()
    for name, traffic in (("reads", reads), ("writes", writes)):
        report.note(name, f"{len(traffic.calls)}, failed: {len(traffic.bad)}")
        statuses = Counter(str(call.answer and call.answer.status_code) for call in traffic.bad)
        report.check(not traffic.bad, f"{name} failed, by status: {dict(statuses)}")
    for samples in sorted(found.values(), key=lambda one: one.name):
        _judge(samples, report)


def _judge(samples: Samples, report: Report) -> None:
    count = len(samples.bytes)
    first = slice(int(count * FROM), int(count * (FROM + SHARE)) + 1)
    last = slice(int(count * (1 - SHARE)), count)
    before, after = (statistics.median(samples.bytes[part]) for part in (first, last))
    files = [int(statistics.median(samples.descriptors[part])) for part in (first, last)]
    report.note(
        f"{samples.name}: RSS at the start, half-way, at the end",
        f"{samples.bytes[0] / 1e6:.1f}, {before / 1e6:.1f}, {after / 1e6:.1f} MB",
    )
    report.note(f"{samples.name}: descriptors half-way, at the end", f"{files[0]}, {files[1]}")
    report.check(
        after - before <= max(LEAST_BYTES, LEAST_SHARE * before),
        f"{samples.name} has grown from {before / 1e6:.1f} to {after / 1e6:.1f} MB",
    )
    report.check(
        files[1] <= files[0] + MORE_DESCRIPTORS,
        f"{samples.name} has {files[1]} descriptors, and had {files[0]}",
    )
