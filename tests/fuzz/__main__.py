"""`make fuzz`: random calls to every method of a whole shop, then schemathesis on its document.

Exit status 1 when an answer was the shop's fault, told what is nobody's business, or was another
one than the contract says.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

# Programs are started while gRPC runs: see tests/conftest.py. It reads this when it is imported.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

from rich.console import Console
from rich.table import Table

from tests.fuzz import document
from tests.fuzz.stories import faults, tell
from tests.fuzz.story import METHODS, Told
from tests.shop import running
from tests.visitors import visiting

MOST_PROBLEMS = 20
# Of the time, random calls get this much; the rest is for the document, three seeds of it.
STORIES = 0.5
SEEDS = 3
LEAST_SECONDS = 5


def main() -> int:
    """Run it, and print what came of it."""
    arguments = _arguments()
    console = Console(highlight=False, soft_wrap=True)
    console.print(f'The same again: make fuzz ARGS="--seed {arguments.seed}"')
    with tempfile.TemporaryDirectory(prefix="shop-fuzz-") as folder:
        try:
            return asyncio.run(_fuzz(Path(folder), arguments, console))
        except (KeyboardInterrupt, asyncio.CancelledError):
            console.print("Ended before its time.")
            return 130


async def _fuzz(folder: Path, arguments: argparse.Namespace, console: Console) -> int:
    task = asyncio.current_task()
    assert task is not None
    # Ended from outside, it ends what it started, as it does after Ctrl-C.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    seed, only = arguments.seed, arguments.story
    failed = False
    async with running(folder, "--port", "0", **document.TOLD) as up, visiting(up) as shop:
        if arguments.part != "document":
            until = time.monotonic() + arguments.seconds * STORIES
            numbers = itertools.count() if only is None else [only]
            told = await tell(shop, seed, numbers, until)
            told.problems += faults(up.text())
            report(told, seed, console)
            failed = bool(told.problems)
        if arguments.part != "calls" and only is None:
            share = max(LEAST_SECONDS, int(arguments.seconds * (1 - STORIES) / (SEEDS + 1)))
            for number in range(seed, seed + SEEDS):
                place, first = folder / f"document-{number}", number == seed
                phases = document.ALL if first else document.RANDOM
                seconds = 2 * share if first else share
                tried = await document.attempt(shop, place, number, phases=phases, seconds=seconds)
                for each in tried:
                    console.print(f"openapi.yaml, seed {number}: {each.summary}", markup=False)
                    if each.failed:
                        failed = True
                        console.print(each.text, markup=False)
    return 1 if failed else 0


def report(told: Told, seed: int, console: Console) -> None:
    """Print the figures, and what was wrong."""
    table = Table("What", "How many", show_edge=False)
    table.add_row("calls", f"{told.calls}")
    for code, count in told.codes.most_common():
        table.add_row(f"  {code}", f"{count}")
    table.add_row("reasons met", f"{len(told.reasons)}")
    reached = sum(1 for method in METHODS if told.answered[method.name])
    table.add_row("methods that did something", f"{reached} of {len(METHODS)}")
    console.print(table)
    for problem in told.problems[:MOST_PROBLEMS]:
        console.print("[bold red]FAIL[/] ", end="")
        console.print(problem, markup=False)
        if found := re.match(r"story (\d+)", problem):
            again = f"--seed {seed} --story {found[1]}"
            console.print(f'  again: make fuzz ARGS="{again}"', markup=False)
    if not told.problems:
        console.print("[green]No answer is a fault of ours, and none tells what it should not.[/]")
    elif len(told.problems) > MOST_PROBLEMS:
        console.print(f"… and {len(told.problems) - MOST_PROBLEMS} more")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long it goes on")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--story", type=int, help="one sequence of calls alone, by its number")
    parser.add_argument("--part", choices=["all", "calls", "document"], default="all")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
