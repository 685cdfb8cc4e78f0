"""What a trial has seen: figures, and what does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass
class Report:
    """Of one trial."""

    figures: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, what: str, how_much: object) -> None:
        """A figure; fractions with three digits."""
        text = f"{how_much:.3g}" if isinstance(how_much, float) else str(how_much)
        self.figures.append((what, text))

    def check(self, holds: bool, otherwise: str) -> None:
        """What has to hold, and what is said if it does not."""
        if not holds:
            self.problems.append(otherwise)

    def show(self, console: Console) -> None:
        """Print it."""
        table = Table("What", "How much", show_edge=False)
        for row in self.figures:
            table.add_row(*row)
        console.print(table)
        for problem in self.problems:
            console.print(f"[bold red]FAIL[/] {problem}", markup=True)


def percentile(values: Sequence[float], percent: float) -> float:
    """Of values in any order; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0
