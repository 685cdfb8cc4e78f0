"""What the edge costs: the same reads with its features on and off, and as REST beside gRPC.

One shop, and an Envoy for each choice of features before it; they take turns as in `bench.rounds`.
All clients ask as browsers do: from a page of some origin, and for compressed answers.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench import http1, shop as shops, shop_loads
from bench.load import Load, Measured
from bench.pages import PAGE
from bench.rounds import AT_ONCE
from bench.subjects import Calls
from cli import edge
from cli.edge_options import EdgeOptions, Rate
from cli.topology import LOOPBACK, Address, free_port, is_free
from shop.catalog.v1.catalog_pb2 import GetProductRequest

BARE = EdgeOptions(
    cors_origins=(), rate=None, strict_rate=None, access_log="errors", compression=False
)
# Counted for each call, and never reached.
ENDLESS = Rate(1_000_000, 1)
CHOICES = {
    "bare": BARE,
    "CORS": replace(BARE, cors_origins=("*",)),
    "rate limit": replace(BARE, rate=ENDLESS, strict_rate=ENDLESS),
    "access log": replace(BARE, access_log="all"),
    "compression": replace(BARE, compression=True),
    "all": EdgeOptions(rate=ENDLESS, strict_rate=ENDLESS),
}
AS_A_BROWSER = b"\r\norigin: https://shop.example\r\naccept-encoding: gzip, deflate, br, zstd\r\n"
PRODUCTS = 2_000
ROUNDS, SECONDS = 6, 1.5
START_SECONDS = 30
ONE, MANY = "GetProduct", f"ListProducts of {PAGE}"


@dataclass(frozen=True)
class Figures:
    """What is shown of one load."""

    calls_per_second: float
    p50_milliseconds: float
    ratio_to_bare: float


@contextmanager
def envoy(services: dict[str, str], options: EdgeOptions, folder: Path) -> Iterator[Address]:
    """An edge of its own before the services; its address."""
    places = {name: (address(where),) for name, where in services.items()}
    here = Address(LOOPBACK, free_port())
    configuration, log = folder / f"{here.port}.yaml", folder / f"{here.port}.log"
    chosen = edge.Edge(here, Address(LOOPBACK, free_port()), places, options=options)
    configuration.write_text(edge.render(chosen))
    command = [str(edge.envoy_binary()), "--config-path", str(configuration), *edge.ARGUMENTS]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        until = time.monotonic() + START_SECONDS
        while is_free(here.port):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"Envoy does not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield here
    finally:
        process.terminate()
        process.wait(10)


def address(text: str) -> Address:
    """What `host:port` says."""
    host, _, port = text.rpartition(":")
    return Address(host, int(port))


def subjects(shop: shops.Shop, goods: shop_loads.Goods, edges: dict[str, Address]) -> list[Calls]:
    """The reads at each edge, and natively: at the service, and through the edge."""
    ids = [id for id, _ in goods.popular]
    found = []
    for name, where in edges.items():
        found.append(rest(f"{ONE}, {name}", where, [f"/api/products/{id}/" for id in ids]))
        if name in ("bare", "all"):
            page = f"/api/products/?page_size={PAGE}&order_by=name"
            found.append(rest(f"{MANY}, {name}", where, [page]))
    asked = [(GetProductRequest(id=id).SerializeToString().hex(), id.encode().hex()) for id in ids]
    for name, where in (
        ("gRPC through the edge", edges["all"]),
        ("gRPC at the service", address(shop.services["catalog"])),
    ):
        path = f"{shop_loads.CATALOG}GetProduct"
        found.append(Calls(f"{ONE}, {name}", Load("grpc", where.host, where.port, asked, path)))
    return found


def rest(name: str, where: Address, paths: list[str]) -> Calls:
    """Gets; what is compressed cannot be looked into, but has to be 200."""
    requests = [http1.request("GET", f"{path}") for path in paths]
    exchanges = [(one.replace(b"\r\n", AS_A_BROWSER, 1).hex(), "") for one in requests]
    return Calls(name, Load("rest", where.host, where.port, exchanges))


def figures(rounds: dict[str, list[Measured]]) -> dict[str, Figures]:
    """What the rounds come to; each ratio is taken within its round."""
    shown = {}
    for name, measured in rounds.items():
        bare = rounds[f"{MANY if name.startswith(MANY) else ONE}, bare"]
        ratios = [mine.rate / its.rate for mine, its in zip(measured, bare, strict=True)]
        times = sorted(one for each in measured for one in each.microseconds)
        shown[name] = Figures(
            round(statistics.median(one.rate for one in measured)),
            times[len(times) // 2] / 1000,
            round(statistics.median(ratios), 3),
        )
    return shown


async def run(console: Console) -> dict[str, Figures]:
    """Start everything, measure, print the table, give the figures."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="shop-bench-edge-")))
        shop = await stack.enter_async_context(shops.running(PRODUCTS))
        edges = {
            name: stack.enter_context(envoy(shop.services, options, folder))
            for name, options in CHOICES.items()
        }
        all_ = subjects(shop, await shop_loads.goods(shop), edges)
        for one in all_:
            await one.measure(SECONDS, AT_ONCE)
        rounds: dict[str, list[Measured]] = {one.name: [] for one in all_}
        for _ in track(range(ROUNDS), "measuring", console=console, transient=True):
            for one in all_:
                rounds[one.name].append(await one.measure(SECONDS, AT_ONCE))
    shown = figures(rounds)
    console.print(table(shown))
    return shown


def table(shown: dict[str, Figures]) -> Table:
    """The figures as people read them."""
    drawn = Table(title=f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    for number, column in enumerate(("load", "calls/s", "p50 ms", "of bare")):
        drawn.add_column(column, justify="right" if number else "left")
    for name, row in shown.items():
        figures = (row.calls_per_second, row.p50_milliseconds, row.ratio_to_bare)
        drawn.add_row(name, f"{figures[0]:,.0f}", f"{figures[1]:.2f}", f"{figures[2]:.2f}")
    return drawn
