"""What a call costs: CPU time of each process, and SQL statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from bench import processes
from bench.peers.serve import Peer
from bench.rounds import AT_ONCE
from bench.shop import Shop
from bench.subjects import Subject

SECONDS = 2.0
# Less than that, or than that part of all, is what goes on anyway.
LEAST_MICROSECONDS = 10
LEAST_SHARE = 0.03


@dataclass(frozen=True)
class Cost:
    """Of one call at saturation."""

    microseconds: dict[str, float]
    """CPU time by process."""
    statements: float
    """BEGIN and COMMIT are two."""

    @property
    def total(self) -> float:
        """CPU microseconds of all processes but the client."""
        return sum(self.microseconds.values())


def _cpu(shop: Shop, peers: Sequence[Peer]) -> dict[str, float]:
    groups = processes.of_tree(shop.up.process.pid)
    for peer in peers:
        trees = processes.of_tree(peer.process.pid)
        groups[peer.name] = [one for group in trees.values() for one in group]
    return {name: processes.cpu_seconds(group) for name, group in groups.items()}


async def costs(
    shop: Shop, peers: Sequence[Peer], subjects: Sequence[Subject], seconds: float = SECONDS
) -> dict[str, Cost]:
    """The cost of a call of each subject."""
    owner = await asyncpg.connect(shop.owner_url)
    await owner.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA public")
    found = {}
    for one in subjects:
        # Everybody's connections are open, and idle ones' plans are made.
        await one.measure(seconds / 2, AT_ONCE)
        await owner.execute("SELECT pg_stat_statements_reset()")
        before = _cpu(shop, peers)
        measured = await one.measure(seconds, AT_ONCE)
        after = _cpu(shop, peers)
        statements = await owner.fetchval(
            "SELECT sum(calls) FROM pg_stat_statements"
            " WHERE query NOT LIKE '%pg_stat_statements%' AND query NOT LIKE '%pg_tables%'"
        )
        calls = len(measured.microseconds)
        spent = {name: (after[name] - before.get(name, 0.0)) * 1e6 / calls for name in after}
        least = max(LEAST_MICROSECONDS, LEAST_SHARE * sum(spent.values()))
        found[one.name] = Cost(
            {name: round(us) for name, us in spent.items() if us > least},
            round(float(statements or 0) / calls, 2),
        )
    await owner.close()
    return found
