"""`shop top`: what it makes of what services tell Prometheus."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from rich.console import Console

from cli import top
from cli.programs import StartError
from cli.scrape import Calls, Reading, add
from cli.topology import LOOPBACK, Address, free_port
from services.kit import metrics
from tests.kit.serving import serving
from tests.kit.things import SERVICE, Thing

METHOD = "/shop.catalog.v1.CatalogService/GetProduct"


class Process:
    """A process that counts as the kit does."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.calls = Counter("shop_rpc_total", "", ["method", "code"], registry=self._registry)
        self.seconds = Histogram(
            "shop_rpc_duration_seconds",
            "",
            ["method"],
            buckets=(0.001, 0.01, 0.1, 1),
            registry=self._registry,
        )
        self.pending = Gauge("shop_outbox_pending", "", ["topic"], registry=self._registry)

    def call(self, seconds: float, times: int = 1, code: str = "OK") -> None:
        for _ in range(times):
            self.calls.labels(METHOD, code).inc()
            self.seconds.labels(METHOD).observe(seconds)

    def tell(self, reading: Reading, name: str) -> None:
        add(reading, name, generate_latest(self._registry).decode())


def read(**processes: Process) -> Reading:
    reading = Reading()
    for name, process in processes.items():
        process.tell(reading, name)
    return reading


def test_what_two_processes_answered_is_added_up_since_the_last_look() -> None:
    one, two = Process(), Process()
    one.call(0.005, times=50)
    before = read(one=one, two=two)
    one.call(0.005, times=10)
    two.call(0.005, times=20)
    two.call(0.5, times=2, code="NOT_FOUND")
    two.call(0.5, code="INTERNAL")
    calls = read(one=one, two=two).since(before)[METHOD]
    assert calls.number == 33
    assert (calls.count(failed=False), calls.count(failed=True)) == (2, 1)


def test_a_process_that_was_started_again_has_no_calls_below_nothing() -> None:
    old, new = Process(), Process()
    old.call(0.005, times=50)
    new.call(0.005, times=3)
    calls = read(one=new).since(read(one=old))[METHOD]
    assert calls.number == 0


@pytest.mark.parametrize(("share", "seconds"), [(0.5, 0.0055), (0.9, 0.01), (0.99, 0.91)])
def test_quantiles_are_those_of_prometheus(share: float, seconds: float) -> None:
    process = Process()
    process.call(0.005, times=90)
    process.call(0.5, times=10)
    reading = read(one=process)
    wanted = {0.5: 0.001 + 0.009 * 50 / 90, 0.9: 0.01, 0.99: 0.1 + 0.9 * 9 / 10}
    assert reading.calls[METHOD].quantile(share) == pytest.approx(wanted[share])
    assert wanted[share] == pytest.approx(seconds, rel=0.1)


def test_beyond_the_last_bound_nothing_is_made_up() -> None:
    process = Process()
    process.call(7.0)
    assert read(one=process).calls[METHOD].quantile(0.99) == 1
    assert Calls().quantile(0.99) is None


def test_an_outbox_is_counted_once_for_all_its_topics_worst() -> None:
    process = Process()
    process.pending.labels("mail").set(2)
    process.pending.labels("mark_paid").set(7)
    assert read(one=process).gauges["one"]["shop_outbox_pending"] == 7


def test_it_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    process = Process()
    before = read(one=process)
    process.call(0.005, times=20)
    process.call(0.005, code="INTERNAL")
    now = read(one=process)
    now.away.append("two")
    Console(width=80).print(top.picture(now, before, 2.0))
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if "CatalogService/GetProduct" in line]
    assert line.split()[1:] == ["10.5", "0.0", "0.5", "5.5", "9.9"]
    assert "two" in shown
    assert "does not answer" in shown


async def test_a_running_service_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    metrics.serve(f"127.0.0.1:{port}")
    places = {"kit": Address(LOOPBACK, port), "nobody": Address(LOOPBACK, free_port())}
    async with serving() as served:
        await served.stub.GetThing(Thing())
        looking = asyncio.create_task(top.once(places, 0.5, as_json=True))
        while not looking.done():
            await served.stub.GetThing(Thing())
            await asyncio.sleep(0.02)
    reading = await looking
    assert reading.away == ["nobody"]
    told = json.loads(capsys.readouterr().out)
    assert told["methods"][f"{SERVICE}/GetThing"]["rate"] > 0
    assert told["methods"][f"{SERVICE}/GetThing"]["p99"] > 0
    assert told["processes"]["kit"]["process_resident_memory_bytes"] > 1e6


def test_whom_to_ask_can_be_told(tmp_path: Path) -> None:
    named = top.processes(tmp_path, ["order=127.0.0.1:9100", "[::1]:9101"])
    assert named == {"order": Address("127.0.0.1", 9100), "[::1]:9101": Address("::1", 9101)}
    with pytest.raises(StartError, match="is not host:port"):
        top.processes(tmp_path, ["order=here"])
    with pytest.raises(StartError, match="--at"):
        top.processes(tmp_path, [])
