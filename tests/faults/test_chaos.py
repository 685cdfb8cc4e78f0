"""`make chaos` for a moment: every service dies once under its customers, one stands still."""

from __future__ import annotations

from pathlib import Path

from cli.topology import SERVICES
from tests.chaos.blows import Blow
from tests.chaos.run import run

SECONDS = 12.0


async def test_what_was_acknowledged_outlives_every_service(tmp_path: Path) -> None:
    blows = [Blow(1.0 + 2.0 * number, service) for number, service in enumerate(SERVICES)]
    blows.append(Blow(blows[-1].at + 1, "order", stopped=1.5))
    outcome = await run(tmp_path, blows, seconds=SECONDS, seed=1, shoppers=4, rest=0)
    assert outcome.problems == []
    assert len(outcome.healed) == len(blows)
    assert outcome.orders > 0
