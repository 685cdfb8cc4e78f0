"""`make bench`, or `python -m bench`: see bench/README.md."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import calls, growth

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
    """Start a shop of its own, load it, and compare it with a bare echo: about a minute."""
    if context.invoked_subcommand is None:
        write(calls.run(products, Console()), file)


@app.command("growth")
def grow(
    most: Annotated[int, typer.Option(min=1000, help="How far the catalogue grows.")] = 100_000,
    file: JsonOption = None,
) -> None:
    """Pages and searches while the catalogue grows (1,000,000: about five minutes)."""
    write(growth.run(most, Console()), file)


def write(figures: object, file: Path | None) -> None:
    if file is not None:
        file.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    # However it is asked to end, it takes along what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name="python -m bench")
