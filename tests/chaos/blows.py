"""What is done to a running shop: processes killed, and processes that stand still for a while."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.topology import SERVICES
from tests.shop import Process, Ready, ShopUp

POSTGRES, ENVOY, STRIPE = "postgres", "envoy", "stripe"
SECONDS_BETWEEN = (5.0, 15.0)
POSTGRES_FIRST, POSTGRES_EVERY = 30.0, 60.0
STOPPED_SECONDS = (1.0, 20.0)
STOPPED_SHARE = 0.25
HEALTHY_WITHIN = 60.0
PROBE_SECONDS = 0.05


@dataclass(frozen=True)
class Blow:
    """At `at` seconds, `victim` is killed, or stopped for so many seconds."""

    at: float
    victim: str
    stopped: float = 0.0

    def __str__(self) -> str:
        return f"{self.victim} {f'stopped for {self.stopped:.1f} s' if self.stopped else 'killed'}"


@dataclass(frozen=True)
class Healed:
    """How long after a blow (or the end of a stop) its victim worked again; None for never."""

    blow: Blow
    seconds: float | None


def plan(chance: random.Random, seconds: float) -> list[Blow]:
    """Blows over so many seconds, in their order. The same for the same seed."""
    blows, at = [], POSTGRES_FIRST
    while at < seconds:
        blows.append(Blow(at, POSTGRES))
        at += POSTGRES_EVERY
    at = chance.uniform(*SECONDS_BETWEEN)
    while at < seconds:
        stopped = chance.uniform(*STOPPED_SECONDS) if chance.random() < STOPPED_SHARE else 0.0
        blows.append(Blow(at, chance.choice((*SERVICES, ENVOY, STRIPE)), stopped))
        at += chance.uniform(*SECONDS_BETWEEN)
    return sorted(blows, key=lambda blow: blow.at)


@dataclass
class Fist:
    """Deals blows, and looks when their victims are well again."""

    up: ShopUp
    ready: Ready
    healed: list[Healed] = field(default_factory=list)

    async def deal(self, blows: list[Blow]) -> None:
        """Deal all of them, each at its time; ends when every victim is well, or never will be."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for blow in blows:
                await asyncio.sleep(max(0.0, began + blow.at - time.monotonic()))
                group.create_task(self._deal(blow))

    async def _deal(self, blow: Blow) -> None:
        victim = await self._find(_words(blow.victim))
        if victim is None:
            self.healed.append(Healed(blow, None))
            return
        if blow.stopped:
            victim.send(signal.SIGSTOP)
            try:
                await asyncio.sleep(blow.stopped)
            finally:
                victim.send(signal.SIGCONT)
        else:
            victim.send(signal.SIGKILL)
        since = time.monotonic()
        try:
            async with asyncio.timeout(HEALTHY_WITHIN):
                while not await self.is_healthy(blow.victim):
                    await asyncio.sleep(PROBE_SECONDS)
        except TimeoutError:
            self.healed.append(Healed(blow, None))
        else:
            self.healed.append(Healed(blow, time.monotonic() - since))

    async def _find(self, words: str) -> Process | None:
        """The process to hit. One that has just been hit may take a moment to be back."""
        until = time.monotonic() + HEALTHY_WITHIN
        while (found := self.up.find(words)) is None and time.monotonic() < until:
            await asyncio.sleep(PROBE_SECONDS)
        return found

    async def is_healthy(self, victim: str) -> bool:
        """Whether a process does its work: a service says so, the others answer."""
        try:
            if victim == POSTGRES:
                await (await asyncpg.connect(self.ready.database_url, timeout=2)).close()
                return True
            if victim == STRIPE:
                async with httpx.AsyncClient(base_url=self.ready.stripe, timeout=2) as http:
                    return (await http.get("/_sandbox/health")).is_success
            if victim == ENVOY:
                async with httpx.AsyncClient(base_url=self.ready.edge, timeout=2) as http:
                    # Whatever it is: it comes from Envoy, or from behind it.
                    return (await http.get("/api/cart/")).status_code > 0
            async with grpc.aio.insecure_channel(self.ready.services[victim]) as channel:
                stub: Any = health_pb2_grpc.HealthStub(channel)
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
        except (
            OSError,
            TimeoutError,
            asyncpg.PostgresError,
            httpx.TransportError,
            grpc.aio.AioRpcError,
        ):
            return False


def _words(victim: str) -> str:
    """What only the command of this victim has in it."""
    if victim == STRIPE:
        return "sandbox.stripe"
    return f"services.{victim}" if victim in SERVICES else f"/{victim} "
