"""The account: everything that the API's endpoints work on, and one call of one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.stripe.clock import Clock
from sandbox.stripe.faults import Fault, Faults
from sandbox.stripe.idempotency import Keys
from sandbox.stripe.store import Object, Store

API_VERSION = "2026-10-28.endive"


@dataclass
class Webhook:
    """Where events are sent, and the secrets that sign them (several while one is rolled)."""

    url: str | None = None
    secrets: list[str] = field(default_factory=list)


class Account:
    """State, clock, faults and webhook of the one account that this server is."""

    def __init__(
        self, path: str = ":memory:", webhook: Webhook | None = None, api_key: str | None = None
    ) -> None:
        # The file that keeps the state; None: it ends with the process.
        self.data = None if path == ":memory:" else str(Path(path).resolve())
        self.store = Store(path)
        self.clock = Clock(float(self.store.fact("clock_offset") or 0))
        self.faults = Faults()
        self.keys = Keys(self.store, self.clock)
        self.webhook = webhook or Webhook()
        self.api_key = api_key
        # Set when there may be something to send or to do; see webhooks.py and errands.py.
        self.wake = asyncio.Event()

    def advance(self, seconds: float) -> None:
        """Jump ahead, and let what became due happen."""
        self.clock.advance(seconds)
        with self.store.transaction():
            self.store.set_fact("clock_offset", repr(self.clock.offset))
            self.keys.forget_old()
        self.wake.set()

    def reset(self) -> None:
        """As new: no objects, keys, events, faults, and the clock right."""
        self.store.clear()
        self.faults.remove()
        self.clock.offset = 0.0


@dataclass
class Call:
    """One request on its way through an endpoint, or something the sandbox does by itself."""

    account: Account
    base_url: str
    request_id: str | None = None
    idempotency_key: str | None = None
    faults: dict[str, Fault] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return self.account.store

    def now(self) -> int:
        return self.account.clock.seconds()


Endpoint = Callable[..., Object]
