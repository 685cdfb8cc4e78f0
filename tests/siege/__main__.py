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
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console

from tests.faults.replicas import doubled
from tests.shop import running
from tests.siege import migrations, outages, overload, postgres, replicas, secrets, soak
from tests.siege.report import Report
from tests.visitors import Shop, visiting

Trial = Callable[[Report, Path, float], Awaitable[None]]
RATE = 200.0
# Made of the services' secret, a mark would not outlive it.
MARK = {"SHOP_PAYMENT_STRIPE_MARK": "siege"}


def alone(work: Callable[[Shop, Report, float], Awaitable[None]]) -> Trial:
    """A trial of a shop with one process of each service."""

    async def trial(report: Report, folder: Path, seconds: float) -> None:
        async with running(folder, "--port", "0") as up, visiting(up) as shop:
            await work(shop, report, seconds)

    return trial


def in_pairs(work: Callable[[Shop, Report, float], Awaitable[None]]) -> Trial:
    """A trial of a shop with two of each."""

    async def trial(report: Report, folder: Path, seconds: float) -> None:
        async with doubled(folder, **MARK) as shop:
            await work(shop, report, seconds)

    return trial


async def _replicas(shop: Shop, report: Report, seconds: float) -> None:
    await replicas.kill(shop, report, rate=RATE, seconds=seconds)
    await replicas.roll(shop, report, rate=RATE, seconds=seconds)


# By name: what it does at how many seconds by default, and the trial.
TRIALS: dict[str, tuple[str, float, Trial]] = {
    "replicas": (
        "E4: one of two killed, all restarted in turn, at 200 calls a second",
        8.0,
        in_pairs(_replicas),
    ),
    "overload": (
        "E5: five times what the shop can do",
        12.0,
        alone(lambda shop, report, seconds: overload.flood(shop, report, seconds=seconds)),
    ),
    "postgres": (
        "E8: Postgres restarted and killed, at 200 calls a second",
        6.0,
        alone(
            lambda shop, report, seconds: postgres.fall(
                shop, report, rate=RATE, seconds=seconds, times=2
            )
        ),
    ),
    "outages": (
        "E10: each service down in turn",
        5.0,
        alone(lambda shop, report, seconds: outages.darken(shop, report, seconds=seconds)),
    ),
    "migrations": (
        "E14: each migration at 100 calls a second, with the release before it",
        6.0,
        lambda report, folder, seconds: migrations.migrate(
            report, folder, rate=RATE / 2, seconds=seconds
        ),
    ),
    "secrets": (
        "the services' secret replaced, at 100 calls a second",
        4.0,
        in_pairs(
            lambda shop, report, seconds: secrets.replace(
                shop, report, rate=RATE / 2, seconds=seconds
            )
        ),
    ),
    "soak": (
        "E12: what processes hold stays what it was; an hour: --seconds 3600",
        600.0,
        alone(
            lambda shop, report, seconds: soak.soak(shop, report, rate=RATE / 4, seconds=seconds)
        ),
    ),
}
# Which are meant by none: the soak is long.
USUAL = tuple(name for name in TRIALS if name != "soak")


async def run(name: str, seconds: float | None, console: Console) -> bool:
    """One trial; whether all of it holds."""
    title, usual, trial = TRIALS[name]
    console.rule(f"{name}: {title}", align="left")
    report = Report()
    with tempfile.TemporaryDirectory(prefix="shop-siege-") as folder:
        try:
            await trial(report, Path(folder), usual if seconds is None else seconds)
        except Exception:
            report.problems.append(traceback.format_exc(limit=-4))
    report.note("load average", os.getloadavg()[0])
    report.show(console)
    console.print("[red]It does not hold.[/]" if report.problems else "[green]It holds.[/]")
    return not report.problems


async def main(names: list[str], seconds: float | None) -> bool:
    """The trials; whether all hold."""
    task = asyncio.current_task()
    assert task is not None
    # Ended from outside, it ends what it started, as it does after Ctrl-C.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    console = Console(highlight=False, soft_wrap=True)
    return all([await run(name, seconds, console) for name in names])


def _arguments() -> argparse.Namespace:
    lines = "\n".join(f"  {name:11} {title}" for name, (title, _, _) in TRIALS.items())
    parser = argparse.ArgumentParser(
        prog="make siege",
        description=f"{__doc__}\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trials", nargs="*", metavar="trial", help="all but the soak by default")
    parser.add_argument("--seconds", type=float, help="how long each step of a trial is")
    told = parser.parse_args()
    if unknown := set(told.trials) - TRIALS.keys():
        parser.error(f"{', '.join(unknown)}: choose of {', '.join(TRIALS)}")
    return told


if __name__ == "__main__":
    told = _arguments()
    sys.exit(0 if asyncio.run(main(told.trials or list(USUAL), told.seconds)) else 1)
