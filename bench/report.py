"""Tables of an outcome, for a terminal and for bench/README.md."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.compare import Outcome, to_peer, to_sql
from bench.goals import ECHO
from bench.peers.serve import COMMANDS, DRF, FASTAPI
from bench.rounds import AT_ONCE, Times

README = Path(__file__).with_name("README.md")
NOTHING = ""
# A load average above this, before anything was started, is somebody else's.
BUSY = 1.0


@dataclass(frozen=True)
class Grid:
    """A table: the first column is text, the others are figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def drawn(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a file."""
        rule = "| --- |" + " ---: |" * (len(self.columns) - 1)
        lines = ["| " + " | ".join(row) + " |" for row in (self.columns, *self.rows)]
        return "\n".join([f"**{self.title}**", "", lines[0], rule, *lines[1:]])


def grids(outcome: Outcome) -> list[Grid]:
    """All tables, the goals first."""
    return [_goals(outcome), _calls(outcome), _costs(outcome), _sizes(outcome), _imports(outcome)]


def _goals(outcome: Outcome) -> Grid:
    marks = {True: "reached", False: "missed", None: ""}
    return Grid(
        "goals",
        ("measure", "goal", "measured", ""),
        [(row.name, row.goal, row.measured, marks[row.reached]) for row in outcome.goals],
    )


def _calls(outcome: Outcome) -> Grid:
    def times(one: Times | None) -> tuple[str, str]:
        return (NOTHING, NOTHING) if one is None else (f"{one.p50:.2f}", f"{one.p99:.2f}")

    def ratio(found: float | None) -> str:
        return NOTHING if found is None else f"{found:.2f}"

    figures = outcome.figures
    return Grid(
        f"calls: {outcome.products:,} products, {AT_ONCE} at once, {os.cpu_count()} cores; ms",
        (
            *("load", "calls/s", "p50", "p99", "alone p50", "p99", "at half p50", "p99"),
            *("÷ echo", "÷ SQL", f"÷ {FASTAPI}", f"÷ {DRF}"),
        ),
        [
            (
                name,
                f"{one.rate:,.0f}",
                *times(one.busy),
                *times(one.alone),
                *times(one.half),
                f"{one.ratio_to(figures[ECHO]):.3f}",
                ratio(to_sql(figures, name)),
                ratio(to_peer(figures, name, FASTAPI)),
                ratio(to_peer(figures, name, DRF)),
            )
            for name, one in figures.items()
        ],
    )


def _costs(outcome: Outcome) -> Grid:
    return Grid(
        "what a call costs at saturation: µs of CPU of all processes but the client",
        ("load", "SQL a call", "µs", "of which"),
        [
            (
                name,
                f"{one.statements:g}",
                f"{one.total:,.0f}",
                ", ".join(f"{who} {us:,.0f}" for who, us in one.microseconds.items()),
            )
            for name, one in outcome.costs.items()
        ],
    )


def _sizes(outcome: Outcome) -> Grid:
    return Grid(
        "memory after all that, MB (PSS: what is shared counts in part)",
        ("process", "RSS", "PSS"),
        [(name, f"{rss:.0f}", f"{pss:.0f}") for name, (rss, pss) in outcome.sizes.items()],
    )


def _imports(outcome: Outcome) -> Grid:
    return Grid(
        "imports, ms",
        ("service", "all", "largest"),
        [
            (
                name,
                f"{one.milliseconds:.0f}",
                ", ".join(f"{package} {ms:.0f}" for package, ms in one.packages.items()),
            )
            for name, one in outcome.imports.items()
        ],
    )


def show(outcome: Outcome, console: Console) -> None:
    """Print everything."""
    for grid in grids(outcome):
        console.print(grid.drawn())
    for sentence in (*outcome.effects, _conditions(outcome)):
        console.print(sentence)


def _conditions(outcome: Outcome) -> str:
    busy = (
        "The machine had other work too: times and rates say little, CPU and ratios more. "
        if outcome.load_average > BUSY
        else ""
    )
    return (
        f"Commit {outcome.commit}; load average before: {outcome.load_average:.1f}; meanwhile the"
        f" machine's host kept {outcome.stolen:.0%} of the cores' time for others. {busy}"
        "The shop is five services of one process each, Envoy and Postgres; "
        f"{FASTAPI}: `python {COMMANDS[FASTAPI]}`; {DRF}: `python {COMMANDS[DRF]}`."
    )


def record(outcome: Outcome, command: str) -> None:
    """Put the tables into bench/README.md, in place of the latest ones."""
    parts = [f"`{command}`. {_conditions(outcome)}", *outcome.effects]
    keep(README, "latest", [*parts, *(grid.markdown() for grid in grids(outcome))])


def keep(file: Path, name: str, parts: Sequence[str]) -> None:
    """Write paragraphs between the marks of this name, in place of what stands there."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    latest = "\n\n".join([begin, *parts, end])
    text = re.sub(f"{begin}.*{end}", lambda _: latest, file.read_text(), flags=re.DOTALL)
    file.write_text(text)


def bars(outcome: Outcome) -> dict[str, dict[str, float]]:
    """Calls a second, by call and by who answers it."""
    groups: dict[str, dict[str, float]] = {}
    for name, one in outcome.figures.items():
        call, _, way = name.partition(", ")
        who = f"the shop, {way}" if way in ("REST", "gRPC") else way
        groups.setdefault(call, {})[who] = one.rate
    groups["echo"] = {"bare grpc.aio": groups.pop("echo").popitem()[1]}
    return groups
