"""A circuit breaker with a limit: a gateway that is slow or away holds up nobody else.

Closed, it lets so many calls through at a time and refuses the rest at once. After so many failures
in a row it opens: nothing is let through, and a probe asks every few seconds whether the gateway is
back. Customers' payments are no probes. What others call half open is here the time of one probe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from prometheus_client import Counter, Gauge

from services.kit import logs

log = logs.logger("gateway")

OPEN = Gauge("shop_payment_gateway_open", "Whether the circuit breaker lets nothing through.")
FAILED = Counter("shop_payment_gateway_failed_total", "Calls of the gateway that had no answer.")

Answer = TypeVar("Answer")


class RejectedError(Exception):
    """The call was not made."""


class Breaker:
    """The one of a process. `probe` raises while the gateway is not well."""

    def __init__(
        self,
        probe: Callable[[], Awaitable[object]],
        *,
        failures: int = 10,
        concurrent: int = 32,
        pause_seconds: float = 2.0,
        probe_seconds: float = 2.0,
    ) -> None:
        """It opens after `failures` in a row, and closes `pause + probe` seconds after a recovery.

        At most `concurrent` calls are let through at once.
        """
        self._probe = probe
        self._most_failures = failures
        self._concurrent = concurrent
        self._pause_seconds = pause_seconds
        self._probe_seconds = probe_seconds
        self._failures = 0
        self._running = 0
        self._recovering: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing is let through."""
        return self._recovering is not None

    def check(self) -> None:
        """Raise RejectedError when a call would not be made now."""
        if self.is_open or self._running >= self._concurrent:
            raise RejectedError

    async def run(
        self, call: Callable[[], Awaitable[Answer]], is_failure: Callable[[Exception], bool]
    ) -> Answer:
        """Make a call. Raises RejectedError instead, or what the call raises.

        `is_failure` tells whether an exception speaks against the gateway's health.
        """
        self.check()
        self._running += 1
        try:
            answer = await call()
        except Exception as error:
            if is_failure(error):
                self._fail()
            else:
                self._failures = 0
            raise
        finally:
            self._running -= 1
        self._failures = 0
        return answer

    def close(self) -> None:
        """End the probing, when the process ends."""
        if self._recovering is not None:
            self._recovering.cancel()

    def _fail(self) -> None:
        FAILED.inc()
        self._failures += 1
        if self._failures >= self._most_failures and not self.is_open:
            log.warning("the gateway does not answer: no calls until it does")
            OPEN.set(1)
            self._recovering = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        """Probe until the gateway is well."""
        while True:
            await asyncio.sleep(self._pause_seconds)
            try:
                async with asyncio.timeout(self._probe_seconds):
                    await self._probe()
            except Exception as error:
                log.info("the gateway is still away", error=type(error).__name__)
            else:
                break
        log.info("the gateway is back")
        OPEN.set(0)
        self._failures = 0
        self._recovering = None
