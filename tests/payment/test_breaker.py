"""The circuit breaker: it opens soon, asks by itself, and closes soon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from services.payment.breaker import Breaker, RejectedError
from tests.kit.waiting import until


class Gateway:
    """Something that is well, or not."""

    def __init__(self) -> None:
        self.is_well = True
        self.calls = 0
        self.probes = 0
        self.held: asyncio.Event | None = None

    async def call(self) -> str:
        self.calls += 1
        if self.held is not None:
            await self.held.wait()
        if not self.is_well:
            raise ConnectionError
        return "yes"

    async def probe(self) -> None:
        self.probes += 1
        if not self.is_well:
            raise ConnectionError


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
async def breaker(gateway: Gateway) -> AsyncIterator[Breaker]:
    breaker = Breaker(
        gateway.probe, failures=10, concurrent=3, pause_seconds=0.05, probe_seconds=0.05
    )
    yield breaker
    breaker.close()


def is_failure(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


async def ask(breaker: Breaker, call: Callable[[], Any]) -> str:
    """What came of a call: its answer, `failed` or `rejected`."""
    try:
        return str(await breaker.run(call, is_failure))
    except ConnectionError:
        return "failed"
    except RejectedError:
        return "rejected"


async def test_it_opens_after_ten_failures_in_a_row(gateway: Gateway, breaker: Breaker) -> None:
    gateway.is_well = False
    answers = [await ask(breaker, gateway.call) for _ in range(15)]
    assert answers == ["failed"] * 10 + ["rejected"] * 5
    assert gateway.calls == 10


async def test_a_success_in_between_keeps_it_closed(gateway: Gateway, breaker: Breaker) -> None:
    for _ in range(5):
        gateway.is_well = False
        for _ in range(9):
            await ask(breaker, gateway.call)
        gateway.is_well = True
        assert await ask(breaker, gateway.call) == "yes"
    assert not breaker.is_open


async def test_a_refusal_is_an_answer(gateway: Gateway, breaker: Breaker) -> None:
    async def refuse() -> None:
        raise LookupError

    for _ in range(20):
        with pytest.raises(LookupError):
            await breaker.run(refuse, is_failure)
    assert not breaker.is_open


async def test_it_closes_by_itself_once_the_gateway_is_back(
    gateway: Gateway, breaker: Breaker
) -> None:
    gateway.is_well = False
    for _ in range(10):
        await ask(breaker, gateway.call)
    await until(lambda: gateway.probes >= 2)
    assert breaker.is_open
    assert gateway.calls == 10  # nobody's payment was a probe
    gateway.is_well = True
    await until(lambda: not breaker.is_open)
    assert await ask(breaker, gateway.call) == "yes"


async def test_a_probe_that_hangs_is_given_up(gateway: Gateway) -> None:
    async def hang() -> None:
        gateway.probes += 1
        if not gateway.is_well:
            await asyncio.sleep(60)

    breaker = Breaker(hang, failures=1, pause_seconds=0.01, probe_seconds=0.02)
    gateway.is_well = False
    await ask(breaker, gateway.call)
    await until(lambda: gateway.probes > 2)
    gateway.is_well = True
    await until(lambda: not breaker.is_open)
    breaker.close()


async def test_more_calls_than_it_lets_through_are_refused_at_once(
    gateway: Gateway, breaker: Breaker
) -> None:
    gateway.held = asyncio.Event()
    running = [asyncio.create_task(ask(breaker, gateway.call)) for _ in range(3)]
    await asyncio.sleep(0)
    assert await ask(breaker, gateway.call) == "rejected"
    gateway.held.set()
    assert await asyncio.gather(*running) == ["yes"] * 3
    assert await ask(breaker, gateway.call) == "yes"


async def test_a_cancelled_call_gives_its_place_back(gateway: Gateway, breaker: Breaker) -> None:
    gateway.held = asyncio.Event()
    running = [asyncio.create_task(ask(breaker, gateway.call)) for _ in range(3)]
    await asyncio.sleep(0)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    gateway.held.set()
    assert await ask(breaker, gateway.call) == "yes"
