"""Calls that go on and on while something happens, and what became of each."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import httpx

from services.kit.ids import uuid7
from tests.refusals import refused
from tests.sizes import WHOLE, size
from tests.visitors import Shop, euros

# Of a test, when it waits for what is to happen, however busy the machine is.
PATIENCE_SECONDS = 60.0
# Between the calls of one caller: what starts meanwhile needs the machine, too.
PAUSE_SECONDS = size(0.01, 0.05)

Ask = Callable[[], Awaitable[httpx.Response]]


@dataclass(frozen=True)
class Call:
    """One call: when it began and ended, and its answer, if one came."""

    began: float
    ended: float
    answer: httpx.Response | None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began

    @property
    def is_good(self) -> bool:
        """Whether it was answered as it should be."""
        return self.answer is not None and self.answer.is_success

    @property
    def is_late(self) -> bool:
        """Whether its time was up: a machine that others keep busy may not get to it at all."""
        return self.answer is not None and self.answer.status_code == httpx.codes.GATEWAY_TIMEOUT

    @property
    def reason(self) -> str:
        """Why it was refused, checked against what the contract says about that reason."""
        if self.answer is None:
            return "no answer"
        details = self.answer.json()["details"]
        if self.is_late and not details:  # gRPC itself was first to notice, and has few words
            return "DEADLINE_EXCEEDED"
        assert details, self.answer.text
        reason = str(details[0]["reason"])
        refused(self.answer, reason)
        return reason


@dataclass
class Traffic:
    """The calls so far, in the order of their ends."""

    calls: list[Call] = field(default_factory=list)

    @property
    def bad(self) -> list[Call]:
        """Those that went wrong."""
        return [call for call in self.calls if not call.is_good]

    @property
    def harmed(self) -> list[Call]:
        """Those that went wrong, and not only because this machine has other things to do."""
        return [call for call in self.bad if WHOLE or not call.is_late]

    @property
    def reasons(self) -> set[str]:
        """Why calls were refused."""
        return {call.reason for call in self.bad}

    def good_after(self, moment: float) -> list[Call]:
        """The good ones that began later."""
        return [call for call in self.calls if call.is_good and call.began > moment]

    async def call(self, ask: Ask) -> None:
        """Call once."""
        began, answer = time.monotonic(), None
        with contextlib.suppress(httpx.TransportError):
            answer = await ask()
        self.calls.append(Call(began, time.monotonic(), answer))

    async def more(self, count: int, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait for so many more good calls, begun from now on."""
        now = time.monotonic()
        await until(lambda: len(self.good_after(now)) >= count, seconds)


@contextlib.asynccontextmanager
async def calling(
    ask: Ask, *, at_once: int = 2, pause: float = PAUSE_SECONDS
) -> AsyncIterator[Traffic]:
    """Call again and again during the block. Calls in flight at its end are waited for."""
    traffic, over = Traffic(), asyncio.Event()

    async def work() -> None:
        while not over.is_set():
            await traffic.call(ask)
            await asyncio.sleep(pause)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
        try:
            yield traffic
        finally:
            over.set()


@contextlib.asynccontextmanager
async def paced(ask: Ask, rate: float) -> AsyncIterator[Traffic]:
    """Call so many times a second during the block, whether or not earlier calls were answered."""
    traffic, over = Traffic(), asyncio.Event()

    async def pace(group: asyncio.TaskGroup) -> None:
        began = time.monotonic()
        for number in itertools.count():
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            if over.is_set():
                return
            group.create_task(traffic.call(ask))

    async with asyncio.TaskGroup() as group:
        group.create_task(pace(group))
        try:
            yield traffic
        finally:
            over.set()


async def until(
    condition: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float
) -> float:
    """Wait until something is so; how long it took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if (await found) if not isinstance(found, bool) else found:
                return time.monotonic() - began
            await asyncio.sleep(0.02)


async def seen(condition: Callable[[], bool], seconds: float) -> float:
    """Wait until something is so about processes; how long it took.

    Looking at all of them takes a while, in which the calls of this process should go on.
    """
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.5)
    return time.monotonic() - began


class Additions:
    """Products that are added one after the other, each under a key of its own."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.answers: dict[str, httpx.Response | None] = {}

    async def __call__(self) -> httpx.Response:
        """Add the next one."""
        return await self.add(f"KEY-{uuid7().hex}")

    async def add(self, key: str) -> httpx.Response:
        """Add the one of this key, maybe once more. The key is its SKU, too."""
        self.answers[key] = None
        body = {"name": "A lamp", "price": euros(20), "stock": 7, "sku": key}
        answer = await self._shop.staff.post("/api/products/", body, idempotency_key=key)
        self.answers[key] = answer
        return answer

    @property
    def acknowledged(self) -> set[str]:
        """The keys of those that were answered with 201."""
        return {
            key
            for key, answer in self.answers.items()
            if answer is not None and answer.status_code == httpx.codes.CREATED
        }
