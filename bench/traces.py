"""What traces cost: the same calls of shops without them, with all, with a tenth, and with nobody
to take them.

Without a collector's address nothing of them is loaded (`tests/kit/test_traces.py`), so the first
shop is what everybody has who does not ask for them. The shops take turns as in `bench.rounds`.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench import processes, shop as shops, shop_loads
from bench.load import Measured
from bench.rounds import AT_ONCE
from bench.shop_loads import CREATE_ORDER, GET
from bench.subjects import Calls
from cli.topology import LOOPBACK, free_port
from tests.collector import collecting

OFF, ALL, TENTH, AWAY = "off", "all", "a tenth", "all, collector away"
PRODUCTS = 2_000
ROUNDS, SECONDS = 6, 1.5
# Until the last spans of a round have been sent.
LATE_SECONDS = 6.0
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@dataclass
class Rounds:
    """What was measured of one load at one shop."""

    measured: list[Measured] = field(default_factory=list)
    cpu: float = 0.0
    """Seconds of all processes of the shop."""
    spans: int = 0

    @property
    def calls(self) -> int:
        """Answers in all rounds."""
        return sum(len(one.microseconds) for one in self.measured)


@dataclass(frozen=True)
class Figures:
    """What is shown of one load at one shop; ratios are to the shop without traces."""

    calls_per_second: float
    ratio: float
    cpu_microseconds: float
    cpu_ratio: float
    spans: float


# What each shop is told, and whether it has somebody to send spans to.
TENTH_SAMPLER = {
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.1",
}
CHOICES: dict[str, tuple[dict[str, str], bool]] = {
    OFF: ({}, False),
    ALL: ({}, True),
    TENTH: (TENTH_SAMPLER, True),
    AWAY: ({ENDPOINT: f"http://{LOOPBACK}:{free_port()}"}, False),
}


async def run(console: Console, rounds: int = ROUNDS) -> dict[str, dict[str, Figures]]:
    """Start everything, measure, print the table, give the figures by load and choice."""
    async with AsyncExitStack() as stack:
        running, loads, collectors = {}, {}, {}
        for choice, (variables, is_sent) in CHOICES.items():
            told = dict(variables)
            if is_sent:
                collectors[choice] = stack.enter_context(collecting())
                told[ENDPOINT] = collectors[choice].url
            running[choice] = await stack.enter_async_context(shops.running(PRODUCTS, told=told))
            goods = await shop_loads.goods(running[choice])
            there = shop_loads.reads(running[choice], goods)
            there |= shop_loads.purchases(running[choice], goods)
            loads[choice] = {name: Calls(name, there[name]) for name in (GET, CREATE_ORDER)}
            for one in loads[choice].values():
                await one.measure(SECONDS, AT_ONCE)
        await asyncio.sleep(LATE_SECONDS)
        for collector in collectors.values():
            collector.take()
        found: dict[str, dict[str, Rounds]] = defaultdict(lambda: defaultdict(Rounds))
        for _ in track(range(rounds), "measuring", console=console, transient=True):
            for name in (GET, CREATE_ORDER):
                for choice, shop in running.items():
                    await _round(shop, loads[choice][name], found[name][choice])
                await asyncio.sleep(LATE_SECONDS)
                for choice, collector in collectors.items():
                    found[name][choice].spans += collector.take()
    shown = {name: figures(by_choice) for name, by_choice in found.items()}
    console.print(table(shown))
    return shown


async def _round(shop: shops.Shop, load: Calls, rounds: Rounds) -> None:
    """Measure once."""
    before = _cpu(shop)
    rounds.measured.append(await load.measure(SECONDS, AT_ONCE))
    rounds.cpu += _cpu(shop) - before


def _cpu(shop: shops.Shop) -> float:
    groups = processes.of_tree(shop.up.process.pid).values()
    return sum(processes.cpu_seconds(group) for group in groups)


def figures(rounds: dict[str, Rounds]) -> dict[str, Figures]:
    """What the rounds come to; each ratio of rates is taken within its round."""
    off = rounds[OFF]
    cost = off.cpu / off.calls
    return {
        choice: Figures(
            round(statistics.median(each.rate for each in one.measured)),
            round(
                statistics.median(
                    mine.rate / its.rate
                    for mine, its in zip(one.measured, off.measured, strict=True)
                ),
                3,
            ),
            round(one.cpu / one.calls * 1e6),
            round(one.cpu / one.calls / cost, 3),
            round(one.spans / one.calls, 1),
        )
        for choice, one in rounds.items()
    }


def table(shown: dict[str, dict[str, Figures]]) -> Table:
    """The figures as people read them."""
    drawn = Table(title=f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    for number, column in enumerate(
        ("load", "traces", "calls/s", "of off", "CPU µs a call", "of off", "spans a call")
    ):
        drawn.add_column(column, justify="right" if number > 1 else "left")
    for name, by_choice in shown.items():
        for choice, row in by_choice.items():
            drawn.add_row(
                name if choice == OFF else "",
                choice,
                f"{row.calls_per_second:,.0f}",
                f"{row.ratio:.2f}",
                f"{row.cpu_microseconds:,.0f}",
                f"{row.cpu_ratio:.2f}",
                f"{row.spans:.1f}",
            )
    return drawn
