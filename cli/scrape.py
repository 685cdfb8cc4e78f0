"""Reads what the services tell Prometheus; two readings make rates and latencies."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from cli.topology import Address

SECONDS = 2.0
# What a client can do nothing about.
FAILURES = frozenset(
    ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS", "DEADLINE_EXCEEDED", "UNIMPLEMENTED")
)


@dataclass(slots=True)
class Calls:
    """The calls of one method: how they ended, and how many took at most so many seconds."""

    by_code: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    by_seconds: dict[float, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def number(self) -> float:
        return sum(self.by_code.values())

    def since(self, before: Calls) -> Calls:
        """Those that came after. A process that was started again begins at nothing."""
        later = Calls()
        for code, count in self.by_code.items():
            later.by_code[code] = max(count - before.by_code.get(code, 0.0), 0.0)
        for bound, count in self.by_seconds.items():
            later.by_seconds[bound] = max(count - before.by_seconds.get(bound, 0.0), 0.0)
        return later

    def count(self, *, failed: bool) -> float:
        """How many were refused, or, with `failed`, failed."""
        return sum(
            count
            for code, count in self.by_code.items()
            if code != "OK" and (code in FAILURES) == failed
        )

    def quantile(self, share: float) -> float | None:
        """So many seconds at most took this share of the calls; None when there were none.

        As Prometheus does it: within a bucket, calls are taken to be spread evenly. Beyond the
        last bound nothing is known but that.
        """
        bounds = sorted(self.by_seconds)
        total = self.by_seconds[bounds[-1]] if bounds else 0.0
        if not total:
            return None
        wanted, below, lower = share * total, 0.0, 0.0
        for bound in bounds:
            upto = self.by_seconds[bound]
            if upto >= wanted and upto > below:
                if bound == float("inf"):
                    return lower
                return lower + (bound - lower) * (wanted - below) / (upto - below)
            below, lower = upto, bound
        return lower


@dataclass(slots=True)
class Reading:
    """What all processes told at one moment, added up; `away` are those that did not answer."""

    calls: dict[str, Calls] = field(default_factory=lambda: defaultdict(Calls))
    gauges: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    away: list[str] = field(default_factory=list)

    def since(self, before: Reading) -> dict[str, Calls]:
        """For each method, the calls that came between two readings."""
        return {method: calls.since(before.calls[method]) for method, calls in self.calls.items()}


# Gauges of a process, and of all processes of a service: outboxes are counted by each of them.
OF_A_PROCESS = (
    "shop_rpc_in_flight",
    "shop_db_connections_in_use",
    "shop_db_connections_limit",
    "process_resident_memory_bytes",
    "shop_payment_gateway_open",
)
OF_THE_SERVICE = ("shop_outbox_pending", "shop_outbox_oldest_seconds")


def add(reading: Reading, name: str, text: str) -> None:
    """Add what the process `name` has told, in Prometheus's text format."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            told = sample.labels
            if sample.name == "shop_rpc_total":
                reading.calls[told["method"]].by_code[told["code"]] += sample.value
            elif sample.name == "shop_rpc_duration_seconds_bucket":
                bound = float(told["le"].replace("+Inf", "inf"))
                reading.calls[told["method"]].by_seconds[bound] += sample.value
            elif sample.name in OF_A_PROCESS:
                reading.gauges[name][sample.name] = sample.value
            elif sample.name in OF_THE_SERVICE:
                most = reading.gauges[name].get(sample.name, 0.0)
                reading.gauges[name][sample.name] = max(most, sample.value)


async def read(processes: Mapping[str, Address]) -> Reading:
    """Ask all of them."""
    texts = await asyncio.gather(
        *(asyncio.to_thread(_page, address) for address in processes.values())
    )
    reading = Reading()
    for name, text in zip(processes, texts, strict=True):
        if text is None:
            reading.away.append(name)
        else:
            add(reading, name, text)
    return reading


def _page(address: Address) -> str | None:
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=SECONDS) as answer:
            text: str = answer.read().decode()
            return text
    except (OSError, ValueError):
        return None


def busiest(calls: Mapping[str, Calls], most: int) -> Iterable[tuple[str, Calls]]:
    """The methods with the most calls, and no more than so many."""
    busy = [(method, one) for method, one in calls.items() if one.number]
    return sorted(busy, key=lambda found: -found[1].number)[:most]
