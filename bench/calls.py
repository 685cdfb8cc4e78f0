"""Calls per second and their times: the shop against a bare echo of the same message.

Loads take turns, round after round, so that whatever else the machine does hits all of them. A
ratio is taken within a round, and the median of the rounds is what is shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench import echo
from bench.load import AT_ONCE, Load, Measured
from bench.statements import per_call
from cli import catalogue, seed
from cli.database import databases_of
from cli.programs import die_with_parent
from shop.catalog.v1.catalog_pb2 import GetProductRequest, ListProductsRequest, Product
from shop.catalog.v1.catalog_pb2_grpc import CatalogServiceStub

START_SECONDS = 60
ROUNDS = 6
ROUND_SECONDS = 1.5
WARM_UP_SECONDS = 1.0
PAGE = 20
SAMPLE = 200
CATALOG = "/shop.catalog.v1.CatalogService/"
ECHO = "echo, bare grpc.aio"


@dataclass(frozen=True)
class Figures:
    """What is shown of one load."""

    calls_per_second: float
    p50_milliseconds: float
    p99_milliseconds: float
    ratio_to_echo: float
    statements: float | None


@dataclass(frozen=True)
class Shop:
    """The addresses of a running shop."""

    edge: str
    catalog: str
    database_url: str


@contextmanager
def running_shop() -> Iterator[Shop]:
    """`shop up` with everything of its own, in a folder that is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="shop-bench-") as name:
        folder = Path(name)
        ready, log = folder / "ready.json", folder / "log"
        command = [sys.executable, "-c", "from cli.main import app; app()", "up", "--no-demo"]
        command += ["--port", "0", "--data", f"{folder / 'data'}", "--ready-file", f"{ready}"]
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent(signal.SIGINT),  # noqa: PLW1509 - there are no threads
            )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the shop does not start:\n{log.read_text()}")
                time.sleep(0.05)
            said = json.loads(ready.read_text())
            edge = said["edge"].removeprefix("http://")
            yield Shop(edge, said["services"]["catalog"], said["database_url"])
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


@contextmanager
def running_echo(product: Product) -> Iterator[int]:
    """The echo server in a process of its own; its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.echo"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(product.SerializeToString().hex() + "\n")
        process.stdin.flush()
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(10)


async def sample(shop: Shop) -> list[Product]:
    """Some products, from all over the catalogue."""
    async with grpc.aio.insecure_channel(shop.catalog) as channel:
        stub = CatalogServiceStub(channel)
        answer = await stub.ListProducts(
            ListProductsRequest(page_size=SAMPLE, order_by="name"), wait_for_ready=True
        )
    return list(answer.products)


def loads(shop: Shop, echo_port: int, products: list[Product]) -> dict[str, Load]:
    """What is measured, the echo first."""

    def load(kind: Any, address: str, path: str, exchanges: list[tuple[bytes, str]]) -> Load:
        host, _, port = address.rpartition(":")
        pairs = [(body.hex(), expected.encode().hex()) for body, expected in exchanges]
        return Load(kind, host, int(port), path, pairs, ROUND_SECONDS)

    def serialized(message: Any) -> bytes:
        raw: bytes = message.SerializeToString()
        return raw

    gets = [(serialized(GetProductRequest(id=item.id)), item.id) for item in products]
    urls = [(f"/api/products/{item.id}/".encode(), item.id) for item in products]
    page = serialized(ListProductsRequest(page_size=PAGE, order_by="name"))
    url = f"/api/products/?page_size={PAGE}&order_by=name".encode()
    first = products[0].id
    return {
        ECHO: load("grpc", f"127.0.0.1:{echo_port}", echo.PATH, [(gets[0][0], first)]),
        "GetProduct, gRPC": load("grpc", shop.catalog, f"{CATALOG}GetProduct", gets),
        "GetProduct, REST through Envoy": load("rest", shop.edge, "", urls),
        f"ListProducts of {PAGE}, gRPC": load(
            "grpc", shop.catalog, f"{CATALOG}ListProducts", [(page, first)]
        ),
        f"ListProducts of {PAGE}, REST through Envoy": load("rest", shop.edge, "", [(url, first)]),
    }


def send(load: Load, seconds: float) -> Measured:
    """Run a load in a process of its own. Raises RuntimeError for answers not as expected."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        input=json.dumps(asdict(load) | {"seconds": seconds}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    measured = Measured(**json.loads(done.stdout))
    if measured.wrong or not measured.microseconds:
        raise RuntimeError(f"{measured.wrong} answers of {load.path or load.kind} were wrong")
    return measured


def take_turns(loads: dict[str, Load], console: Console) -> dict[str, list[Measured]]:
    """Each load in each round, after a first one that does not count."""
    for load in loads.values():
        send(load, WARM_UP_SECONDS)
    rounds: dict[str, list[Measured]] = {name: [] for name in loads}
    for _ in track(range(ROUNDS), "measuring", console=console, transient=True):
        for name, load in loads.items():
            rounds[name].append(send(load, ROUND_SECONDS))
    return rounds


def figures(rounds: dict[str, list[Measured]], statements: dict[str, float]) -> dict[str, Figures]:
    """What the rounds come to."""
    rates = {
        name: [len(one.microseconds) / one.seconds for one in measured]
        for name, measured in rounds.items()
    }
    shown = {}
    for name, measured in rounds.items():
        times = sorted(time for one in measured for time in one.microseconds)
        ratios = [rate / base for rate, base in zip(rates[name], rates[ECHO], strict=True)]
        shown[name] = Figures(
            calls_per_second=round(statistics.median(rates[name])),
            p50_milliseconds=times[len(times) // 2] / 1000,
            p99_milliseconds=times[len(times) * 99 // 100] / 1000,
            ratio_to_echo=round(statistics.median(ratios), 3),
            statements=statements.get(name.partition(",")[0].partition(" of")[0]),
        )
    return shown


def table(shown: dict[str, Figures], products: int) -> Table:
    """The figures as people read them."""
    title = f"{products:,} products, {AT_ONCE} calls at once, {os.cpu_count()} cores"
    drawn = Table(title=title)
    drawn.add_column("load")
    for column in ("calls/s", "p50 ms", "p99 ms", "of echo", "SQL a call"):
        drawn.add_column(column, justify="right")
    for name, row in shown.items():
        drawn.add_row(
            name,
            f"{row.calls_per_second:,.0f}",
            f"{row.p50_milliseconds:.2f}",
            f"{row.p99_milliseconds:.2f}",
            f"{row.ratio_to_echo:.2f}",
            "-" if row.statements is None else f"{row.statements:g}",
        )
    return drawn


def run(products: int, console: Console) -> dict[str, Any]:
    """Start everything, measure, print the table, give the figures."""
    with console.status("starting the shop"), running_shop() as shop:
        catalog_url = databases_of(shop.database_url).services["catalog"]
        asyncio.run(seed.load(catalog_url, catalogue.made_up_items(products, seed="bench")))
        asyncio.run(seed.refresh_statistics(shop.database_url))
        listed = asyncio.run(sample(shop))
        statements = asyncio.run(per_call(catalog_url, listed[0].id))
        with running_echo(listed[0]) as port:
            rounds = take_turns(loads(shop, port, listed), console)
    shown = figures(rounds, statements)
    console.print(table(shown, products))
    return {
        "products": products,
        "cores": os.cpu_count(),
        "at_once": AT_ONCE,
        "loads": {name: asdict(row) for name, row in shown.items()},
    }
