"""What calls cost while the shop grows: products, orders of one user, filters, connections.

Lists are measured as the services run their statements, without gRPC, on a Postgres of their own;
connections on a whole shop.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import growth_connections, growth_filters, growth_lists, growth_orders
from bench.chart import Plot
from bench.report import README, Grid, keep
from cli import migrate
from cli.database import Databases, databases_of, ensure_database
from cli.postgres import Cluster, serve
from cli.topology import free_port

PRODUCTS = (1_000, 10_000, 100_000, 1_000_000)
ORDERS = (10, 1_000, 100_000, 1_000_000)
TITLES = {
    "products": "ListProducts: a page of 20, its statements, by products",
    "orders": "Orders of one user: statements, by orders",
    "filters": "ListProducts: its statements, by parts of the filter",
    "connections": "A call through the edge, by open connections",
}
# Of the many lists, those that a plot has room for.
PLOTTED = (
    "newest",
    "by price",
    "category with those below",
    "two attributes, in stock",
    "q, in many names",
    "q, three words",
    "q, rare",
    "q, typing error",
    "newest, page 1,000",
    "q, common, by price",
)


@contextmanager
def postgres() -> Iterator[Databases]:
    """A Postgres as `shop up` starts it, in a folder that is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="shop-bench-") as name:
        folder = Path(name)
        cluster = Cluster(folder / "postgres", folder / "password", free_port())
        cluster.create()
        with serve(cluster, folder / "log"):
            yield databases_of(cluster.url("shop"))


async def _measure(part: str, most: int, console: Console) -> Any:
    if part == "connections":
        return await growth_connections.measure()
    with postgres() as databases:
        assert databases.owner is not None
        await ensure_database(databases.owner.rpartition("/")[0] + "/postgres", "shop")
        await migrate.migrate(databases, ["catalog", "order"])
        if part == "orders":
            return await growth_orders.measure(databases, _sizes(ORDERS, most), console)
        if part == "filters":
            return await growth_filters.measure(databases)
        return await growth_lists.measure(databases, _sizes(PRODUCTS, most), console)


def _sizes(wanted: tuple[int, ...], most: int) -> list[int]:
    return [size for size in wanted if size < most] + [most]


def run(part: str, most: int, console: Console) -> dict[str, Any]:
    """Measure one of `TITLES`, up to `most` products or orders; print a table, give the figures."""
    found = asyncio.run(_measure(part, most, console))
    rows = {
        name: {str(size): asdict(one) for size, one in row.items()} for name, row in found.items()
    }
    console.print(_grid(TITLES[part], rows).drawn())
    return rows


def _grid(title: str, rows: Mapping[str, Any]) -> Grid:
    sizes = sorted({size for row in rows.values() for size in row}, key=int)
    return Grid(
        f"{title}: ms, p50 / p99",
        ("", *(f"{int(size):,}" for size in sizes)),
        [
            (
                name,
                *(
                    f"{row[size]['p50']:.1f} / {row[size]['p99']:.1f}" if size in row else ""
                    for size in sizes
                ),
            )
            for name, row in rows.items()
        ],
    )


def record(figures: Mapping[str, Any], command: str) -> None:
    """Put the tables into bench/README.md, in place of the latest ones."""
    tables = [
        _grid(title, figures[part]).markdown() for part, title in TITLES.items() if part in figures
    ]
    keep(README, "growth", [f"`{command}`, load average {os.getloadavg()[2]:.1f}.", *tables])


def plots(figures: Mapping[str, Any]) -> list[Plot]:
    """The medians, over size."""
    found = []
    for part, title in TITLES.items():
        if part not in figures:
            continue
        what, _, by = title.rpartition(", by ")
        rows = {
            name: {int(size): one["p50"] for size, one in row.items()}
            for name, row in figures[part].items()
            if part != "products" or name in PLOTTED
        }
        found.append(Plot(what, by, "ms, median", rows))
    return found
