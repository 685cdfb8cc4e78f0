"""What a pooler costs a look-up: `python -m bench.pooling`.

An order with its lines, read as GetOrder reads it: with prepared statements, without them, and
through PgBouncer in transaction mode. The three take turns, so that a busy machine is busy for all.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from rich.console import Console
from rich.progress import Progress

from cli.commands import Wanted
from cli.database import databases_of, ensure_database
from cli.postgres import Cluster, serve
from cli.seed_shop import load
from cli.topology import free_port
from services.kit import sessions
from services.order import store
from tests.pgbouncer import pooling

ROUNDS = 15
EACH = 100


async def measure(connection: Any, orders: list[UUID]) -> float:
    """Microseconds of a look-up."""
    began = time.perf_counter()
    for id in orders:
        await store.get(connection, id)
    return (time.perf_counter() - began) / len(orders) * 1e6


async def run(folder: Path, say: Any) -> None:
    with ExitStack() as stack:
        cluster = Cluster(folder / "postgres", folder / "password", free_port())
        cluster.create()
        stack.enter_context(serve(cluster, folder / "log"))
        await ensure_database(cluster.url("postgres"), "shop")
        databases = databases_of(cluster.url())
        with Progress(disable=True) as bar:
            await load(databases, Wanted(200, 200, 0, 2_000), "pooling", bar)
        url = databases.services["order"]
        pooler = stack.enter_context(pooling(cluster.url(), url))
        ways = {
            "prepared statements": (url, sessions.direct("bench")),
            "without": (url, sessions.pooled("bench")),
            "through PgBouncer": (pooler.url(url), sessions.pooled("bench")),
        }
        connections = {
            name: await asyncpg.connect(where, **how) for name, (where, how) in ways.items()
        }
        rows = await connections["without"].fetch(f'SELECT id FROM "order".orders LIMIT {EACH}')  # noqa: S608
        for connection in connections.values():
            await sessions.prepare(connection)
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, connection in connections.items():
                took[name].append(await measure(connection, [row["id"] for row in rows]))
        least = statistics.median(took["prepared statements"])
        for name, times in took.items():
            middle = statistics.median(times)
            say(f"{name}: {middle:.0f} µs, {middle / least:.2f} times the first")
        for connection in connections.values():
            await connection.close()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="shop-pooling-") as folder:
        Path(folder).chmod(0o755)
        asyncio.run(run(Path(folder), Console(highlight=False).print))


if __name__ == "__main__":
    main()
