"""`make siege`: promises about load, faults and replacement at their full size, with figures.

Each trial has a shop of its own. Exit status 1 when something does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from tests.faults.replicas import doubled
from tests.shop import running
from tests.siege import migrations, outages, overload, postgres, replicas, secrets, soak
from tests.siege.report import Report
from tests.visitors import Shop, visiting

LOG_ALL = {"SHOP_ACCESS_LOG": "all"}
# Made of the services' secret, a mark would not outlive it.
MARK = {"SHOP_PAYMENT_STRIPE_MARK": "siege"}


@dataclass(frozen=True)
class Trial:
    """What is tried, with how many calls a second and how many seconds for each of its steps."""

    title: str
    rate: float
    seconds: float
    work: Callable[[Shop, Report, float, float], Awaitable[None]]
    pairs: bool = False
    """Whether each service has two processes."""
    told: Mapping[str, str] = field(default_factory=dict)


async def _replicas(shop: Shop, report: Report, rate: float, seconds: float) -> None:
    await replicas.kill(shop, report, rate=rate, seconds=seconds)
    await replicas.roll(shop, report, rate=rate, seconds=seconds)


async def _overload(shop: Shop, report: Report, _: float, seconds: float) -> None:
    await overload.flood(shop, report, seconds=seconds)


async def _postgres(shop: Shop, report: Report, rate: float, seconds: float) -> None:
    await postgres.fall(shop, report, rate=rate, seconds=seconds, times=2)


async def _outages(shop: Shop, report: Report, _: float, seconds: float) -> None:
    await outages.darken(shop, report, seconds=seconds)


async def _secrets(shop: Shop, report: Report, rate: float, seconds: float) -> None:
    await secrets.replace(shop, report, rate=rate, seconds=seconds)


async def _soak(shop: Shop, report: Report, rate: float, seconds: float) -> None:
    await soak.soak(shop, report, rate=rate, seconds=seconds)


TRIALS = {
    "replicas": Trial("E4: one of two killed, all restarted", 200, 4, _replicas, pairs=True),
    "overload": Trial("E5: five times what the shop can do", 0, 12, _overload),
    "postgres": Trial("E8: Postgres restarted and killed", 200, 11, _postgres),
    "outages": Trial("E10: each service down in turn", 0, 5, _outages),
    "secrets": Trial("the services' secret replaced", 100, 4, _secrets, pairs=True),
    "soak": Trial("E12: what processes hold; an hour: --seconds 3600", 50, 600, _soak),
}
MIGRATIONS = "E14: each migration, called by the release before it"
MIGRATIONS_RATE, MIGRATIONS_SECONDS = 100.0, 6.0
TITLES = {name: trial.title for name, trial in TRIALS.items()} | {"migrations": MIGRATIONS}
# Which are meant by none: the soak is long.
USUAL = tuple(name for name in TITLES if name != "soak")


async def tried(name: str, report: Report, rate: float | None, seconds: float | None) -> None:
    """A trial, in a shop that is removed."""
    with tempfile.TemporaryDirectory(prefix="shop-siege-") as told:
        folder = Path(told)
        if name == "migrations":
            await migrations.migrate(
                report,
                folder,
                rate=MIGRATIONS_RATE if rate is None else rate,
                seconds=MIGRATIONS_SECONDS if seconds is None else seconds,
            )
            return
        trial = TRIALS[name]
        how = (
            trial.rate if rate is None else rate,
            trial.seconds if seconds is None else seconds,
        )
        if trial.pairs:
            async with doubled(folder, **MARK) as shop:
                await trial.work(shop, report, *how)
        else:
            async with running(folder, "--port", "0", **trial.told) as up, visiting(up) as shop:
                await trial.work(shop, report, *how)


async def run(name: str, rate: float | None, seconds: float | None, console: Console) -> bool:
    """One trial, with its report; whether all of it holds."""
    console.rule(f"{name}: {TITLES[name]}", align="left")
    report = Report()
    try:
        await tried(name, report, rate, seconds)
    except asyncio.CancelledError:
        report.show(console)  # as far as it came
        raise
    except Exception:
        report.problems.append(traceback.format_exc(limit=-4))
    report.note("load average", os.getloadavg()[0])
    report.show(console)
    console.print("[red]It does not hold.[/]" if report.problems else "[green]It holds.[/]")
    return not report.problems


async def main(names: list[str], rate: float | None, seconds: float | None) -> bool:
    """The trials; whether all hold."""
    task = asyncio.current_task()
    assert task is not None
    # Ended from outside, it ends what it started, as it does after Ctrl-C.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    console = Console(highlight=False, soft_wrap=True)
    return all([await run(name, rate, seconds, console) for name in names])


def _arguments() -> argparse.Namespace:
    lines = "\n".join(f"  {name:11} {title}" for name, title in TITLES.items())
    parser = argparse.ArgumentParser(
        prog="make siege",
        description=f"{__doc__}\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trials", nargs="*", metavar="trial", help="all but the soak by default")
    parser.add_argument("--rate", type=float, help="calls a second, where that can be chosen")
    parser.add_argument("--seconds", type=float, help="how long each step of a trial is")
    told = parser.parse_args()
    if unknown := set(told.trials) - TITLES.keys():
        parser.error(f"{', '.join(unknown)}: choose of {', '.join(TITLES)}")
    return told


if __name__ == "__main__":
    told = _arguments()
    try:
        sys.exit(0 if asyncio.run(main(told.trials or list(USUAL), told.rate, told.seconds)) else 1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("Ended before its time.")
