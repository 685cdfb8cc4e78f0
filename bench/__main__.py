"""`make bench`, or `python -m bench`: see bench/README.md."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

# What a command needs is imported by that command.
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here too.")
]
SvgOption = Annotated[
    Path | None, typer.Option("--svg", metavar="FILE", help="Write a chart of them here.")
]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def compare(
    context: typer.Context,
    products: Annotated[int, typer.Option(min=1000, help="How many are in the shop.")] = 10_000,
    file: JsonOption = None,
    svg: SvgOption = None,
    growth: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What `growth --json FILE` wrote, for its two goals."),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Keep the tables in bench/README.md.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Whether it works: its figures mean nothing.")
    ] = False,
) -> None:
    """The shop beside a bare echo, its own SQL, and a FastAPI and a DRF shop. Nine minutes."""
    if context.invoked_subcommand is not None:
        return
    from bench import chart, compare, report
    from bench.rounds import QUICK, Plan

    console = wide()
    grown = None if growth is None else json.loads(growth.read_text())
    outcome = asyncio.run(compare.run(products, grown, QUICK if quick else Plan(), console))
    report.show(outcome, console)
    write_json(outcome.as_json(), file)
    if svg is not None:
        svg.write_text(chart.bars("calls a second", report.bars(outcome)))
    if record:
        report.record(outcome, command())


@app.command("payments")
def settle(file: JsonOption = None) -> None:
    """ProcessPayment against the Stripe sandbox, and the charge alone beside it."""
    from dataclasses import asdict

    from bench import payments

    times = asyncio.run(payments.bench(Console()))
    write_json({name: asdict(one) for name, one in times.items()}, file)


@app.command("edge")
def measure_edge(file: JsonOption = None) -> None:
    """REST reads with each feature of the edge on and off, and gRPC beside them. Two minutes."""
    from dataclasses import asdict

    from bench import edge

    shown = asyncio.run(edge.run(Console()))
    write_json({name: asdict(one) for name, one in shown.items()}, file)


@app.command("traces")
def measure_traces(
    rounds: Annotated[int, typer.Option(min=1, help="How often each takes its turn.")] = 6,
    file: JsonOption = None,
) -> None:
    """A read and CreateOrder with traces off, all, a tenth, and with no collector. Two minutes."""
    from dataclasses import asdict

    from bench import traces

    shown = asyncio.run(traces.run(wide(), rounds))
    write_json({load: {k: asdict(v) for k, v in one.items()} for load, one in shown.items()}, file)


@app.command("growth")
def grow(
    parts: Annotated[
        list[str] | None,
        typer.Argument(help="products, orders, filters or connections; all without any."),
    ] = None,
    most: Annotated[
        int, typer.Option(min=10_000, help="How far products and orders grow.")
    ] = 100_000,
    file: JsonOption = None,
    svg: SvgOption = None,
    record: Annotated[
        bool, typer.Option("--record", help="Keep the tables in bench/README.md.")
    ] = False,
) -> None:
    """What calls cost while data, filters and connections grow (1,000,000: a quarter of an hour).

    The parts that are in the file of --json already, and are not measured now, are kept.
    """
    from bench import chart, growth

    chosen = parts or list(growth.TITLES)
    if unknown := set(chosen) - growth.TITLES.keys():
        raise typer.BadParameter(f"{', '.join(unknown)}: choose of {', '.join(growth.TITLES)}")
    before = json.loads(file.read_text()) if file is not None and file.exists() else {}
    figures: dict[str, Any] = dict(before)
    for part in chosen:
        figures[part] = growth.run(part, most, wide())
        write_json(figures, file)  # each is long enough to be kept at once
    if svg is not None:
        svg.write_text(chart.lines(growth.plots(figures)))
    if record:
        growth.record(figures, command())


@app.command("profile")
def where_time_goes(
    calls: Annotated[
        list[str] | None, typer.Argument(help="Parts of the names of calls; all without any.")
    ] = None,
    seconds: Annotated[int, typer.Option(min=2, help="How long each is sampled.")] = 15,
    file: JsonOption = None,
    record: Annotated[
        bool, typer.Option("--record", help="Keep the tables in docs/performance.md.")
    ] = False,
) -> None:
    """Where the time of a call goes: CPU by process, and by layer in the services. Five minutes."""
    from bench import profile

    found = asyncio.run(profile.run(calls or [""], seconds, wide()))
    write_json(found, file)
    if record:
        profile.record(found, command())


def command() -> str:
    """How it was called, without the folders of this machine."""
    arguments = [Path(one).name if "/" in one else one for one in sys.argv[1:]]
    return shlex.join(["python", "-m", "bench", *arguments])


def wide() -> Console:
    """The terminal; where there is none, one that has room for the tables."""
    return Console() if sys.stdout.isatty() else Console(width=170)


def write_json(figures: Any, file: Path | None) -> None:
    if file is not None:
        file.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    # However it is asked to end, it takes along what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name="python -m bench")
