"""`make chaos`: a whole shop, its customers, and processes that die under them (S5 to S8).

Exit status 1 when something that was acknowledged is lost, or `shop verify` finds anything.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cli.verify import show
from tests.chaos import promises
from tests.chaos.blows import plan
from tests.chaos.run import Outcome, run

MOST_PROBLEMS = 20
REST_SECONDS = 61.0


def main() -> int:
    """Run it, and print what came of it."""
    arguments = _arguments()
    console = Console(highlight=False, soft_wrap=True)
    seed: int = arguments.seed
    blows = plan(random.Random(seed), arguments.seconds)
    same = f"--seconds {arguments.seconds:g} --seed {seed} --shoppers {arguments.shoppers}"
    console.print(f'{len(blows)} blows; the same ones again: make chaos ARGS="{same}"')

    async def beat(folder: Path) -> Outcome:
        task = asyncio.current_task()
        assert task is not None
        # Ended from outside, it ends what it started, as it does after Ctrl-C.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await run(
            folder,
            blows,
            seconds=arguments.seconds,
            seed=seed,
            shoppers=arguments.shoppers,
            rest=arguments.rest,
        )

    with tempfile.TemporaryDirectory(prefix="shop-chaos-") as folder:
        try:
            outcome = asyncio.run(beat(Path(folder)))
        except (KeyboardInterrupt, asyncio.CancelledError):
            console.print("Ended before its time.")
            return 130
    report(outcome, console)
    kept = promises.keep() if arguments.promises else 0
    return 1 if outcome.problems else kept


def report(outcome: Outcome, console: Console) -> None:
    """Print the figures, and what does not hold."""
    ledger = outcome.ledger
    table = Table("What", "How much", show_edge=False)
    table.add_row("seconds", f"{outcome.seconds:.1f}")
    table.add_row("calls", f"{ledger.calls}")
    table.add_row("acknowledged", f"{ledger.acknowledged}")
    for what, count in ledger.decided.most_common():
        table.add_row(f"  {what}", f"{count}")
    table.add_row("customers", f"{outcome.customers}")
    table.add_row("  who had themselves deleted", f"{outcome.erased}")
    table.add_row("orders", f"{outcome.orders}")
    table.add_row("charges at the bank", f"{outcome.charges}")
    table.add_row("refused", f"{ledger.refused.total()}")
    for reason, count in ledger.refused.most_common():
        table.add_row(f"  {reason}", f"{count}")
    table.add_row("blows", f"{len(outcome.healed)}")
    for healed in outcome.healed:
        well = f"well after {healed.seconds:.2f} s" if healed.seconds is not None else "never well"
        table.add_row(f"  {healed.blow.at:5.1f} s {healed.blow}", well)
    settled = "never" if outcome.settled is None else f"{outcome.settled:.1f} s"
    table.add_row("until nothing was left to do", settled)
    console.print(table)
    show(outcome.findings, console)
    for problem in outcome.problems[:MOST_PROBLEMS]:
        console.print(f"[bold red]FAIL[/] {problem}", markup=True)
    if not outcome.problems:
        console.print("[green]Everything that was acknowledged is there.[/]")
    elif len(outcome.problems) > MOST_PROBLEMS:
        console.print(f"… and {len(outcome.problems) - MOST_PROBLEMS} more")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long it is beaten")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--shoppers", type=int, default=8)
    parser.add_argument("--rest", type=float, default=REST_SECONDS, help="seconds before the audit")
    parser.add_argument(
        "--promises", action="store_true", help="then `make promises`, a quarter of an hour more"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
