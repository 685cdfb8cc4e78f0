"""What callers were told while the shop was beaten: the other side of what its database says."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from services.kit.ids import uuid7
from tests.visitors import Person, Visitor

# A write is repeated with its key until it is decided. Longer than any blow, and what follows it.
PATIENCE_SECONDS = 90.0
PAUSE_SECONDS = 0.2

# Nothing is decided: the same call may succeed later.
PASSING = {
    "no answer",
    "DEADLINE_EXCEEDED",
    "DEPENDENCY_UNAVAILABLE",
    "GATEWAY_UNAVAILABLE",
    "IDEMPOTENCY_KEY_IN_USE",
    "INTERRUPTED",
    "LOGIN_THROTTLED",
    "OVERLOADED",
    "RATE_LIMITED",
    "TRANSACTION_CONFLICT",
}
# For good, and rightly so.
RIGHTLY = {
    "CARD_DECLINED",
    "CART_EMPTY",
    "ORDER_NOT_PAYABLE",
    "OUT_OF_STOCK",
    "PAYMENT_IN_PROGRESS",
    "PAYMENT_NOT_CONFIRMABLE",
    "PAYMENT_NOT_REFUNDABLE",
    "REFUND_TOO_LARGE",
    "STATUS_CHANGE_FORBIDDEN",
}


@dataclass
class Ledger:
    """Counts of calls, and what was wrong: sentences, one for each broken promise."""

    calls: int = 0
    acknowledged: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    decided: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def note(self, refusal: str) -> None:
        """Count a call that was answered; `refusal` is why not, empty when it was acknowledged."""
        self.calls += 1
        if refusal:
            self.refused[refusal] += 1
        else:
            self.acknowledged += 1

    async def write(
        self,
        who: Visitor,
        verb: str,
        path: str,
        body: Any,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        done: str = "",
    ) -> dict[str, Any] | None:
        """Make a write, again and again with one key until it is decided.

        What it answers; None when it was refused for good, or not decided in time, which is a
        problem. `done` is a refusal that tells that it has been done before: {} is answered.
        """
        named = {"idempotency-key": key or uuid7().hex} | dict(headers or {})
        until = time.monotonic() + PATIENCE_SECONDS
        refusal = ""
        while time.monotonic() < until:
            answer = await self.ask(who, verb, path, body, headers=named)
            refusal = why_not(answer)
            if answer is not None and not refusal:
                self.decided[f"{verb} {_shape(path)}"] += 1
                found: dict[str, Any] = answer.json()
                return found
            if refusal and refusal == done:
                return {}
            if refusal in RIGHTLY:
                return None
            if refusal == "TOKEN_EXPIRED" and isinstance(who, Person):
                await self._sign_in(who)
            elif refusal not in PASSING:
                said = answer.text if answer is not None else ""
                self.problems.append(f"{verb} {path} {body} was answered with {refusal}: {said}")
                return None
            await asyncio.sleep(PAUSE_SECONDS)
        self.problems.append(f"{verb} {path} was not decided in time; at last: {refusal}")
        return None

    async def write_perhaps_twice(
        self, who: Visitor, path: str, body: Any, chance: random.Random
    ) -> list[dict[str, Any]]:
        """The answers to a POST that is made once, or, with one key, twice at the same time."""
        key, times = uuid7().hex, 2 if chance.random() < 0.2 else 1
        answers = await asyncio.gather(
            *(self.write(who, "POST", path, body, key=key) for _ in range(times))
        )
        return [answer for answer in answers if answer is not None]

    async def ask(
        self,
        who: Visitor,
        verb: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response | None:
        """One call; None when no answer came."""
        answer: httpx.Response | None
        try:
            answer = await who.call(verb, path, body, headers=headers)
        except httpx.TransportError:
            answer = None
        self.note(why_not(answer))
        return answer

    async def read(self, who: Visitor, path: str) -> dict[str, Any]:
        """What is there, read until it is answered; empty with a problem when it is not."""
        until = time.monotonic() + PATIENCE_SECONDS
        answer = await self.ask(who, "GET", path)
        while (refusal := why_not(answer)) in PASSING | {"TOKEN_EXPIRED"}:
            if time.monotonic() > until:
                break
            if refusal == "TOKEN_EXPIRED" and isinstance(who, Person):
                await self._sign_in(who)
            await asyncio.sleep(PAUSE_SECONDS)
            answer = await self.ask(who, "GET", path)
        if answer is None or not answer.is_success:
            self.problems.append(f"GET {path} was answered with {why_not(answer)}")
            return {}
        found: dict[str, Any] = answer.json()
        return found

    async def _sign_in(self, who: Person) -> None:
        """Have somebody go on with a new access token."""
        names = {"email": who.email, "password": who.password}
        grant = await self.write(Visitor(who.http), "POST", "/api/auth/login/", names)
        who.token = grant["access_token"] if grant is not None else who.token

    def check(self, holds: bool, otherwise: str) -> None:
        """Take note of a broken promise, unless it holds."""
        if not holds:
            self.problems.append(otherwise)


def why_not(answer: httpx.Response | None) -> str:
    """The reason of a refusal; empty when there is none."""
    if answer is None:
        return "no answer"
    if answer.is_success:
        return ""
    try:
        return str(answer.json()["details"][0]["reason"])
    except (ValueError, LookupError, TypeError):
        # A process that stood still until the deadline: gRPC ends the call before we say why.
        late = answer.status_code == httpx.codes.GATEWAY_TIMEOUT
        return "DEADLINE_EXCEEDED" if late else f"HTTP {answer.status_code}"


def _shape(path: str) -> str:
    """A path without the ids in it."""
    parts = path.strip("/").split("/")
    return "/".join("…" if len(part) == 36 else part for part in parts)
