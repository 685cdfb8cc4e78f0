"""Metrics: what Prometheus reads."""

from __future__ import annotations

import asyncio
import urllib.request

import pytest
from prometheus_client import generate_latest

from cli.topology import free_port
from services.kit import metrics
from services.kit.settings import SettingsError
from tests.kit.serving import serving
from tests.kit.things import SERVICE, Thing


async def test_prometheus_reads_them_over_http() -> None:
    async with serving() as served:
        await served.stub.GetThing(Thing())
    port = free_port()
    metrics.serve(f"127.0.0.1:{port}")

    def page() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    shown = await asyncio.to_thread(page)
    assert f'shop_rpc_total{{code="OK",method="/{SERVICE}/GetThing"}}' in shown
    assert f'shop_rpc_duration_seconds_bucket{{le="0.001",method="/{SERVICE}/GetThing"}}' in shown


def test_an_address_that_is_taken_is_told() -> None:
    with pytest.raises(SettingsError, match="Cannot listen on 192"):
        metrics.serve("192.0.2.1:1")


def test_no_address_is_no_page() -> None:
    metrics.serve("")


def test_every_counter_is_there_before_anything_happened() -> None:
    shown = generate_latest().decode()
    for name in ("shop_db_pool_refused_total", "shop_outbox_lag_seconds_count"):
        assert name in shown
