"""A primary dies under writes, and its synchronous standby takes over (promise E8)."""

from __future__ import annotations

from pathlib import Path

from tests.faults.failover import drill
from tests.sizes import promised


async def test_services_find_the_new_primary_and_nothing_acknowledged_is_lost(
    tmp_path: Path,
) -> None:
    outcome = await drill(tmp_path, 8, durable=False)
    assert outcome.acknowledged > 16
    assert outcome.lost == []
    assert outcome.wrong == ""
    assert max(outcome.first.values()) < promised(2)
