"""Where the time of a call goes: CPU by process from the kernel, by layer from py-spy's samples.

py-spy looks at Python and native frames of a service while a load runs. Samples in which a thread
waits are left out, and the others are given their share of the CPU time that the kernel has counted
in another run without py-spy, which slows a service down.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console

from bench import http1, layers, processes, shop as shops, shop_loads
from bench.cost import LEAST_MICROSECONDS, Cost, costs
from bench.load import Load, Measured
from bench.report import Grid, keep
from bench.rounds import AT_ONCE
from bench.sending import send
from bench.shop import Shop
from bench.subjects import Calls

PRODUCTS = 10_000
# A process stands still while they are taken: with more, calls run out of time on a slow machine.
SAMPLES_A_SECOND = 50
PROCESS_PAYMENT = "ProcessPayment, REST"
PAYMENTS_A_SECOND = 15
PAYMENT_SECONDS = 5
# A layer that takes less of a process is not worth a line.
LEAST_SHARE = 0.01
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "performance.md"


async def run(wanted: Sequence[str], seconds: int, console: Console) -> dict[str, Any]:
    """Profile the calls whose names hold one of `wanted`; the figures by call."""
    found: dict[str, Any] = {"load_average": os.getloadavg()[0]}
    async with shops.running(PRODUCTS) as shop:
        some = await shop_loads.goods(shop)
        loads = shop_loads.reads(shop, some) | shop_loads.purchases(shop, some)
        for name, load in loads.items():
            if any(part in name for part in wanted):
                call = Calls(name, load)
                cost = (await costs(shop, [], [call]))[name]
                found[name] = await _layers(shop, cost, load, seconds)
                console.print(_grid(name, found[name]).drawn())
        if any(part in PROCESS_PAYMENT for part in wanted):
            order = loads[shop_loads.CREATE_ORDER]
            found[PROCESS_PAYMENT] = await _pay(shop, order, seconds)
            console.print(_grid(PROCESS_PAYMENT, found[PROCESS_PAYMENT]).drawn())
    return found


async def _layers(shop: Shop, cost: Cost, load: Load, seconds: int) -> dict[str, Any]:
    """The cost of a call, and that of each service that takes part by layers."""
    services = [
        name
        for name in processes.SERVICES
        if cost.microseconds.get(name, 0) > 4 * LEAST_MICROSECONDS
    ]
    by_layer = {}
    for service in services:
        pid = processes.of_tree(shop.up.process.pid)[service][0].pid
        shares, _ = await asyncio.gather(
            sampled(pid, seconds), send(replace(load, seconds=seconds + 1.0, at_once=AT_ONCE))
        )
        by_layer[service] = _microseconds(shares, cost.microseconds[service])
    return asdict(cost) | {"layers": by_layer}


def _microseconds(shares: Mapping[str, float], total: float) -> dict[str, int]:
    return {layer: round(share * total) for layer, share in shares.items() if share >= LEAST_SHARE}


async def sampled(pid: int, seconds: float) -> dict[str, float]:
    """The share of each layer in what a process does."""
    with tempfile.TemporaryDirectory(prefix="shop-bench-") as folder:
        file = Path(folder) / "stacks"
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("py-spy")),
            *("record", "--native", "--format", "raw", "--rate", f"{SAMPLES_A_SECOND}"),
            *("--duration", f"{seconds:.0f}", "--output", f"{file}", "--pid", f"{pid}"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        if not file.exists():
            raise RuntimeError(f"py-spy does not work here:\n{said.decode()}")
        return layers.shares(file.read_text().splitlines())


class Payments:
    """Payments at a pace that the sandbox can hold, which writes to its disk for each."""

    name = PROCESS_PAYMENT
    paced = True

    def __init__(self, load: Load) -> None:
        self._load = load
        self._next = 0

    async def measure(self, seconds: float, at_once: int, rate: float | None = None) -> Measured:
        """Pay some of the orders: each is paid once."""
        pace = rate or PAYMENTS_A_SECOND
        first, self._next = self._next, self._next + int(seconds * pace) + 1
        some = self._load.exchanges[first : self._next]
        return await send(
            replace(self._load, exchanges=some, seconds=seconds, at_once=at_once, rate=pace)
        )


async def _pay(shop: Shop, order: Load, seconds: int) -> dict[str, Any]:
    """As `_layers`, of payments."""
    payments = Payments(
        await _unpaid(shop, order, PAYMENTS_A_SECOND * (seconds + 4 * PAYMENT_SECONDS))
    )
    cost = (await costs(shop, [], [payments], PAYMENT_SECONDS))[PROCESS_PAYMENT]
    pid = processes.of_tree(shop.up.process.pid)["payment"][0].pid
    shares, _ = await asyncio.gather(
        sampled(pid, seconds),
        payments.measure(seconds + 1.0, AT_ONCE),
    )
    by_layer = {"payment": _microseconds(shares, cost.microseconds["payment"])}
    return asdict(cost) | {"layers": by_layer}


async def _unpaid(shop: Shop, order: Load, count: int) -> Load:
    """Payments of so many orders, which are made first."""
    owner = await asyncpg.connect(shop.owner_url)
    rows: list[Any] = []
    while len(rows) < count:
        await send(replace(order, seconds=1.0, at_once=AT_ONCE))
        rows = await owner.fetch(
            'SELECT id, user_id, number FROM "order".orders WHERE status = 2'
            " AND create_time > now() - interval '5 minutes' LIMIT $1",
            count,
        )
    await owner.close()
    tokens = {who.user_id: who.token for who in shop.customers}
    exchanges = []
    for row in rows:
        body = {"order_id": str(row["id"]), "payment_method": "pm_card_visa"}
        token = tokens[str(row["user_id"])]
        request = http1.request("POST", "/api/payment/", token, json.dumps(body))
        exchanges.append((http1.keyed(request), str(row["id"])))
    return shop_loads.load("rest", shop.edge, exchanges)


def _grid(name: str, found: Mapping[str, Any]) -> Grid:
    cpu = found["microseconds"]
    rows = []
    for process, total in sorted(cpu.items(), key=lambda item: -item[1]):
        rows.append((process, f"{total:,.0f}"))
        for layer, us in found["layers"].get(process, {}).items():
            rows.append((f"· {layer}", f"{us:,}"))
    title = f"{name}: {sum(cpu.values()):,.0f} µs of CPU, {found['statements']:g} statements"
    return Grid(title, ("process, layer", "µs"), rows)


def record(figures: Mapping[str, Any], command: str) -> None:
    """Put the tables into docs/performance.md, in place of the latest ones."""
    said = f"`{command}`, load average before: {figures['load_average']:.1f}."
    tables = [
        _grid(name, found).markdown() for name, found in figures.items() if name != "load_average"
    ]
    keep(DOCUMENT, "profile", [said, *tables])
