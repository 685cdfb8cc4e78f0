"""Faults on order: what should go wrong, with which requests or events, and how often.

A fault is installed over the control path and used up by what it matches. Faults live in memory: a
sandbox that was killed comes back well.
"""

from __future__ import annotations

import fnmatch
import itertools
import math
import random
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

RequestKind = Literal[
    "lose_answer",  # executed, then the connection is cut without an answer
    "lose_request",  # the connection is cut, nothing was executed
    "delay_answer",  # executed, answered after `seconds`
    "delay_request",  # executed after `seconds`; the idempotency key is in use meanwhile
    "server_error",  # 500, nothing executed, nothing kept under the idempotency key
    "server_error_after",  # executed, and yet 500; that answer is what the key keeps
    "rate_limit",  # 429, nothing executed
    "wrong_answer",  # executed; the fields of `set` are overwritten in the answer, not in the state
    "settle_later",  # a confirmation ends in `processing`; after `seconds` it becomes `outcome`
]
EventKind = Literal[
    "drop_event",  # listed by the API, never sent
    "repeat_event",  # sent `copies` times more, at once
    "delay_event",  # sent after `seconds`
    "shuffle_events",  # sent after random times of up to `seconds`, so in any order
]
REQUEST_KINDS: frozenset[str] = frozenset(get_args(RequestKind))
EVENT_KINDS: frozenset[str] = frozenset(get_args(EventKind))
MATCH_FIELDS = frozenset(["method", "path", "idempotency_key", "type"])


@dataclass
class Fault:
    """One order. `match` holds shell patterns; what it does not name matches everything."""

    id: int
    kind: str
    match: dict[str, str] = field(default_factory=dict)
    times: int | None = 1
    probability: float = 1.0
    seconds: float = 1.0
    copies: int = 1
    outcome: str = "succeeded"
    set: dict[str, Any] = field(default_factory=dict)
    used: int = 0


class Faults:
    """The installed faults, in the order of their installation."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)
        self.random = random.Random(0)  # noqa: S311 - repeatable on purpose

    def install(self, order: dict[str, Any]) -> Fault:
        """Install what a control request asks for. Raises ValueError with what is wrong in it."""
        fault = Fault(id=next(self._ids), **_checked(order))
        self._faults.append(fault)
        return fault

    def all(self) -> list[Fault]:
        return list(self._faults)

    def remove(self, id: int | None = None) -> None:
        """Take one fault back, or all."""
        self._faults = [each for each in self._faults if id is not None and each.id != id]

    def take(self, kinds: frozenset[str], **subject: str | None) -> dict[str, Fault]:
        """The faults that `subject` runs into, at most one a kind; each is used once by that."""
        taken: dict[str, Fault] = {}
        for fault in self._faults:
            if fault.kind not in kinds or fault.kind in taken or not _matches(fault, subject):
                continue
            if fault.times is not None and fault.used >= fault.times:
                continue
            if fault.probability < 1 and self.random.random() >= fault.probability:
                continue
            fault.used += 1
            taken[fault.kind] = fault
        return taken


def _matches(fault: Fault, subject: dict[str, str | None]) -> bool:
    return all(
        fnmatch.fnmatchcase(subject.get(name) or "", pattern)
        for name, pattern in fault.match.items()
    )


def _checked(order: dict[str, Any]) -> dict[str, Any]:
    kinds = sorted(REQUEST_KINDS | EVENT_KINDS)
    if order.get("kind") not in kinds:
        raise ValueError(f"kind must be one of {', '.join(kinds)}")
    unknown = order.keys() - (Fault.__dataclass_fields__.keys() - {"id", "used"})
    if unknown:
        raise ValueError(f"a fault has no {', '.join(sorted(unknown))}")
    match = order.get("match", {})
    if not isinstance(match, dict) or not match.keys() <= MATCH_FIELDS:
        raise ValueError(f"match may name {', '.join(sorted(MATCH_FIELDS))}")
    if not all(isinstance(pattern, str) for pattern in match.values()):
        raise ValueError("match holds patterns, as text")
    times = order.get("times", 1)
    if times is not None and not (_is_whole(times) and times > 0):
        raise ValueError("times must be a positive number, or null for always")
    for name, most in (("probability", 1.0), ("seconds", math.inf)):
        value = order.get(name, 1.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise ValueError(f"{name} must be a number from 0")
    copies = order.get("copies", 1)
    if not (_is_whole(copies) and 1 <= copies <= 1000):
        raise ValueError("copies must be 1 to 1000")
    if order.get("outcome", "succeeded") not in ("succeeded", "failed"):
        raise ValueError("outcome must be succeeded or failed")
    if not isinstance(order.get("set", {}), dict):
        raise ValueError("set must hold the fields to overwrite")  # noqa: TRY004 - one refusal
    return order


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
