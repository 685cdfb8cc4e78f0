"""Takes turns: every subject in every round, so that whatever else the machine does hits all alike.

A ratio is taken within a round, and the median of the rounds is what counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track

from bench.load import Measured
from bench.subjects import Subject

AT_ONCE = 16
# Paced calls wait for none of so many connections, unless they pile up.
LANES = 64


@dataclass(frozen=True)
class Plan:
    """How often and how long, in seconds."""

    rounds: int = 5
    # Does not count: what is kept for half a minute was forgotten while the others had their turns.
    warm: float = 1.0
    busy: float = 1.5
    half: float = 1.5
    # With one connection, in one long run.
    alone: float = 2.0


# Whether all of it works; its figures mean nothing.
QUICK = Plan(1, 0.3, 0.3, 0.3, 0.3)


@dataclass(frozen=True)
class Times:
    """Milliseconds of a call."""

    p50: float
    p99: float

    @classmethod
    def of(cls, measured: Sequence[Measured]) -> Times:
        """Of all calls of some runs."""
        times = sorted(time for one in measured for time in one.microseconds)
        return cls(times[len(times) // 2] / 1000, times[len(times) * 99 // 100] / 1000)


@dataclass(frozen=True)
class Figures:
    """What was measured of a subject."""

    rates: Sequence[float]
    """Calls a second at saturation, by round."""
    busy: Times
    alone: Times
    half: Times | None
    """Of all rounds, each at half of what was reached just before."""
    spread_at_half: float | None
    """p99 as a multiple of p50: the median of the rounds."""

    @property
    def rate(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rates)

    def ratio_to(self, other: Figures) -> float:
        """How many calls it answers for each of the other's: the median of the rounds."""
        pairs = zip(self.rates, other.rates, strict=True)
        return statistics.median(mine / its for mine, its in pairs)


async def measure(subjects: Sequence[Subject], console: Console, plan: Plan) -> dict[str, Figures]:
    """Everything about each of them, after a round that does not count."""
    for one in subjects:
        await one.measure(plan.busy, AT_ONCE)
    busy: dict[str, list[Measured]] = {one.name: [] for one in subjects}
    half: dict[str, list[Measured]] = {one.name: [] for one in subjects}
    for _ in track(
        range(plan.rounds), "at saturation, and at half", console=console, transient=True
    ):
        for one in subjects:
            await one.measure(plan.warm, AT_ONCE)
            reached = await one.measure(plan.busy, AT_ONCE)
            busy[one.name].append(reached)
            if one.paced:
                half[one.name].append(await one.measure(plan.half, LANES, reached.rate / 2))
    return {
        one.name: Figures(
            [measured.rate for measured in busy[one.name]],
            Times.of(busy[one.name]),
            Times.of([await one.measure(plan.alone, 1)]),
            Times.of(half[one.name]) if one.paced else None,
            _spread(half[one.name]) if one.paced else None,
        )
        for one in track(subjects, "alone", console=console, transient=True)
    }


def _spread(rounds: Sequence[Measured]) -> float:
    times = [Times.of([measured]) for measured in rounds]
    return statistics.median(one.p99 / one.p50 for one in times)
