"""`shop top`: rates, latencies and errors of each method, as the services tell Prometheus, live."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.data_folder import DataFolder
from cli.examinations import running
from cli.programs import StartError
from cli.scrape import Calls, Reading, busiest, read
from cli.topology import Address
from services.kit.settings import SettingsError, host_and_port

METHODS = 25
NOTHING = "-"


def processes(data: Path, named: list[str]) -> dict[str, Address]:
    """Whom to ask: those that are named (`orders=127.0.0.1:9100`, or only an address), else the
    services of the `shop up` that uses the data folder. Raises StartError.
    """
    found = {}
    for one in named:
        name, _, address = one.rpartition("=")
        try:
            found[name or address] = Address(*host_and_port(address))
        except SettingsError as error:
            raise StartError(str(error)) from None
    if found:
        return found
    here = running(DataFolder(data))
    if here is None:
        raise StartError(
            f"No `shop up` uses {data}. Start it, or name the processes' Prometheus pages: "
            "shop top --at order=127.0.0.1:9100 --at …"
        )
    return dict(here.metrics)


async def watch(places: Mapping[str, Address], seconds: float, console: Console) -> None:
    """Show it again and again, until Ctrl-C."""
    before, began = await read(places), time.monotonic()
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        live.update(Text("One moment …"), refresh=True)
        while True:
            await asyncio.sleep(seconds)
            now, ended = await read(places), time.monotonic()
            live.update(picture(now, before, ended - began), refresh=True)
            before, began = now, ended


async def once(places: Mapping[str, Address], seconds: float, *, as_json: bool) -> Reading:
    """Print what happened in the next `seconds`, for scripts; the reading at their end."""
    before, began = await read(places), time.monotonic()
    await asyncio.sleep(seconds)
    now, took = await read(places), time.monotonic() - began
    console = Console(highlight=False, soft_wrap=as_json)
    if as_json:
        console.print_json(json.dumps(told(now, before, took)))
    else:
        console.print(picture(now, before, took))
    return now


def told(now: Reading, before: Reading, seconds: float) -> dict[str, object]:
    """The same as `picture`, for programs; seconds, and calls per second."""
    methods = {
        method.strip("/"): {
            "rate": calls.number / seconds,
            "refused": calls.count(failed=False) / seconds,
            "failed": calls.count(failed=True) / seconds,
            "p50": calls.quantile(0.5),
            "p99": calls.quantile(0.99),
        }
        for method, calls in busiest(now.since(before), len(now.calls))
    }
    return {"methods": methods, "processes": now.gauges, "away": now.away}


def picture(now: Reading, before: Reading, seconds: float) -> Group:
    """Two tables: methods and processes."""
    later = now.since(before)
    methods = Table(box=None, header_style="dim", pad_edge=False)
    methods.add_column("method", no_wrap=True, overflow="ellipsis")
    for heading in ("calls/s", "refused/s", "failed/s", "p50 ms", "p99 ms"):
        methods.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for method, calls in busiest(later, METHODS):
        methods.add_row(*_row(method.rpartition(".")[2], calls, seconds))
    everything = Calls()
    for calls in later.values():
        for code, count in calls.by_code.items():
            everything.by_code[code] += count
        for bound, count in calls.by_seconds.items():
            everything.by_seconds[bound] += count
    methods.add_section()
    methods.add_row(*_row("all", everything, seconds), style="bold")
    title = Text(f"shop top, {time.strftime('%H:%M:%S')}, {seconds:.1f} s", style="dim")
    return Group(title, methods, Text(), _processes(now))


def _row(name: str, calls: Calls, seconds: float) -> list[Text]:
    failed = calls.count(failed=True)
    return [
        Text(name),
        Text(f"{calls.number / seconds:.1f}"),
        Text(f"{calls.count(failed=False) / seconds:.1f}"),
        Text(f"{failed / seconds:.1f}", style="bold red" if failed else ""),
        Text(_milliseconds(calls.quantile(0.5))),
        Text(_milliseconds(calls.quantile(0.99))),
    ]


def _milliseconds(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{seconds * 1000:.1f}"


def _processes(now: Reading) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("process", no_wrap=True)
    for heading in ("in flight", "connections", "waiting", "oldest s", "memory MB", "breaker"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, gauges in now.gauges.items():

        def shown(key: str, gauges: Mapping[str, float] = gauges, per: float = 1) -> str:
            return f"{gauges[key] / per:.0f}" if key in gauges else NOTHING

        breaker = gauges.get("shop_payment_gateway_open")
        table.add_row(
            name,
            shown("shop_rpc_in_flight"),
            f"{shown('shop_db_connections_in_use')}/{shown('shop_db_connections_limit')}",
            shown("shop_outbox_pending"),
            shown("shop_outbox_oldest_seconds"),
            shown("process_resident_memory_bytes", per=1e6),
            "" if breaker is None else Text("open", style="bold red") if breaker else "closed",
        )
    for name in now.away:
        table.add_row(Text(name), Text("does not answer", style="bold red"))
    return table
