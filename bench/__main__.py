"""`make bench`, or `python -m bench`: see bench/README.md."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import calls, growth, orders, payments

JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here too.")
]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def compare(
    context: typer.Context,
    products: Annotated[int, typer.Option(min=1000, help="How many are in the shop.")] = 10_000,
    file: JsonOption = None,
) -> None:
    """Load a shop of its own: reads beside a bare echo, orders beside plain SQL. Three minutes."""
    if context.invoked_subcommand is None:
        figures = {"reads": calls.run(products, Console()), "orders": buy(), "payments": pay()}
        write(figures, file)


@app.command("orders")
def order(file: JsonOption = None) -> None:
    """Carts and orders, and the same rows as one plain SQL transaction beside them."""
    write(buy(), file)


@app.command("payments")
def settle(file: JsonOption = None) -> None:
    """ProcessPayment against the Stripe sandbox, and the charge alone beside it."""
    write(pay(), file)


@app.command("growth")
def grow(
    most: Annotated[int, typer.Option(min=1000, help="How far the catalogue grows.")] = 100_000,
    file: JsonOption = None,
) -> None:
    """Pages and searches while the catalogue grows (1,000,000: about five minutes)."""
    write(growth.run(most, Console()), file)


def buy() -> dict[str, object]:
    """The figures of carts and orders, by the name of the load."""
    times = asyncio.run(orders.bench(Console()))
    return {name: asdict(one) for name, one in times.items()}


def pay() -> dict[str, object]:
    """The figures of payments, by the name of the load."""
    times = asyncio.run(payments.bench(Console()))
    return {name: asdict(one) for name, one in times.items()}


def write(figures: object, file: Path | None) -> None:
    if file is not None:
        file.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    # However it is asked to end, it takes along what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name="python -m bench")
