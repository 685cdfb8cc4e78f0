"""`make chaos` for a moment: all services and the bank die under customers, one stands still."""

from __future__ import annotations

from pathlib import Path

from cli.topology import SERVICES
from tests.chaos.blows import STRIPE, Blow
from tests.chaos.run import run

SECONDS = 12.0


async def test_what_was_acknowledged_outlives_every_service(tmp_path: Path) -> None:
    blows = [Blow(2.0 + 1.5 * number, victim) for number, victim in enumerate((*SERVICES, STRIPE))]
    blows.append(Blow(blows[-1].at + 1, "order", stopped=1.5))
    outcome = await run(tmp_path, blows, seconds=SECONDS, seed=1, shoppers=4, rest=0)
    assert outcome.problems == []
    assert len(outcome.healed) == len(blows)
    assert outcome.orders > 0
    assert outcome.charges > 0
