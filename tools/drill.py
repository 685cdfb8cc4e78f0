"""The restore drill: `python -m tools.drill` seeds a shop, backs it up, and restores it elsewhere.

Two Postgres of its own, durable, on this machine. It prints how long each part took and what that
makes per gigabyte of database, and fails unless every row is back and every rule holds.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import asyncpg
from rich.progress import Progress

from cli.backup import back_up
from cli.commands import Wanted
from cli.database import Databases, databases_of, ensure_database
from cli.postgres import Cluster, serve
from cli.restore import restore
from cli.seed_shop import load
from cli.topology import free_port
from cli.verify import verify


async def drill(folder: Path, wanted: Wanted, jobs: int) -> bool:
    """Whether all came back."""
    with ExitStack() as stack:
        here = await _postgres(stack, folder / "here")
        there = await _postgres(stack, folder / "there")
        with Progress() as bar:
            await load(here, wanted, "drill", bar)
        gigabytes = await _size(here) / 1e9
        print(f"The database has {gigabytes:.2f} GB.")
        began = time.monotonic()
        manifest = await back_up(here, folder / "backup", jobs=jobs, say=print)
        _took("backup", began, gigabytes)
        stored = sum(path.stat().st_size for path in (folder / "backup").rglob("*"))
        print(f"The backup has {stored / 1e9:.2f} GB.")
        began = time.monotonic()
        await restore(there, folder / "backup", jobs=jobs, replace=False, say=print)
        _took("restore, every row compared", began, gigabytes)
        began = time.monotonic()
        findings = await verify(there, datetime.fromisoformat(manifest.taken))
        broken = [finding.invariant.name for finding in findings if finding.rows]
        print(f"verify: {len(findings)} rules, broken: {broken or 'none'}")
        _took("verify", began, gigabytes)
        return not broken


def _took(what: str, began: float, gigabytes: float) -> None:
    seconds = time.monotonic() - began
    print(f"{what}: {seconds:.1f} s, {seconds / gigabytes:.0f} s per GB")


async def _postgres(stack: ExitStack, folder: Path) -> Databases:
    cluster = Cluster(folder / "postgres", folder / "password", free_port())
    cluster.create()
    stack.enter_context(serve(cluster, folder / "log"))
    await ensure_database(cluster.url("postgres"), "shop")
    return databases_of(cluster.url())


async def _size(databases: Databases) -> int:
    connection = await asyncpg.connect(databases.owner)
    size: int = await connection.fetchval("SELECT pg_database_size(current_database())")
    await connection.close()
    return size


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools.drill", description=__doc__.split("\n")[0])
    for name, number in (("products", 50_000), ("users", 20_000), ("carts", 20_000)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--orders", type=int, default=50_000)
    parser.add_argument("--jobs", type=int, default=2)
    told = parser.parse_args()
    wanted = Wanted(told.products, told.users, told.carts, told.orders)
    with tempfile.TemporaryDirectory(prefix="shop-drill-") as folder:
        if not asyncio.run(drill(Path(folder), wanted, told.jobs)):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
