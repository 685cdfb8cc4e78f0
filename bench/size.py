"""How long the shop takes to start, what it holds in memory, and what its imports cost."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

from bench import processes
from bench.processes import SERVICES
from bench.shop import Shop

IMPORTS = 3
LARGEST = 6


@dataclass(frozen=True)
class Imports:
    """What a service's imports take: milliseconds in all, and of the largest packages."""

    milliseconds: float
    packages: dict[str, float]


def memory(shop: Shop) -> dict[str, tuple[float, float]]:
    """Resident and proportional megabytes, by process."""
    found = {}
    for name, group in processes.of_tree(shop.up.process.pid).items():
        rss, pss = processes.memory_bytes(group)
        found[name] = (round(rss / 1e6, 1), round(pss / 1e6, 1))
    return found


def services_rss(sizes: dict[str, tuple[float, float]]) -> float:
    """What the services are together, without what is not theirs."""
    return sum(sizes[name][0] for name in SERVICES)


def imports(service: str) -> Imports:
    """Import times of a service as Python tells them, the median of some runs."""
    totals, packages = [], []
    for _ in range(IMPORTS):
        own = _self_times(service)
        totals.append(sum(own.values()))
        packages.append(own)
    largest = Counter(
        {
            name: statistics.median(one[name] for one in packages) / 1000
            for name in {name for one in packages for name in one}
        }
    )
    return Imports(
        round(statistics.median(totals) / 1000),
        {name: round(ms, 1) for name, ms in largest.most_common(LARGEST)},
    )


def _self_times(service: str) -> Counter[str]:
    """Microseconds by package, each module's own."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import services.{service}.__main__"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    found: Counter[str] = Counter()
    for line in done.stderr.splitlines():
        own, _, module = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            found[_package(module.strip())] += int(own)
    return found


def _package(module: str) -> str:
    first, _, rest = module.partition(".")
    if first in ("services", "google"):
        return f"{first}.{rest.partition('.')[0]}" if rest else first
    return first if first not in sys.stdlib_module_names else "Python's own"
