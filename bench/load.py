"""One load on one address for some seconds, in a process of its own.

It reads a `Load` as JSON from standard input and writes a `Measured` as JSON to standard output.
Without a rate, so many calls are always open (closed loop: saturation). With one, calls begin at an
even pace, whether or not earlier ones have been answered (open loop): a call that finds no free
connection waits for one, and its wait counts.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Literal

import uvloop

from bench.http1 import RestLane
from bench.http2 import CallLane
from bench.keys import key
from bench.outcome import Outcome

# Between two looks at whether calls are due; the event loop knows no shorter time.
TICK_SECONDS = 0.001
LAST_ANSWER_SECONDS = 10


@dataclass(frozen=True)
class Load:
    """What to send where; `exchanges` are requests with what their answers have to hold, as hex."""

    kind: Literal["grpc", "rest"]
    host: str
    port: int
    exchanges: list[tuple[str, str]]
    path: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    seconds: float = 1.0
    at_once: int = 16
    """So many calls at any time, at the most; each has a connection for itself over REST."""
    connections: int = 1
    """Between which calls are spread, for gRPC."""
    rate: float | None = None
    """Calls a second, where they are paced."""
    name: str = ""
    """What the keys of this run begin with."""
    refusals: list[str] = field(default_factory=list)
    """What an answer holds that is a refusal as it should be, as hex; see `http1` and `http2`."""


@dataclass(frozen=True)
class Measured:
    """How it went: the time of each answer, how many were not as expected, and how long it took."""

    microseconds: list[int]
    """Of all but refusals."""
    wrong: int
    seconds: float
    wrong_answers: dict[str, int] = field(default_factory=dict)
    """Those that were not as expected, or their beginnings, and how often they came."""
    refused: list[int] = field(default_factory=list)
    """The time of each refusal, in microseconds."""

    @property
    def rate(self) -> float:
        """Answers a second that are no refusals."""
        return len(self.microseconds) / self.seconds


Lane = RestLane | CallLane


class Driver:
    """Sends exchanges over lanes, and takes the time of each."""

    def __init__(self, load: Load) -> None:
        self._microseconds: list[int] = []
        self._refused: list[int] = []
        self._wrong: Counter[str] = Counter()
        self._load = load
        self._refusals = [bytes.fromhex(text) for text in load.refusals]
        self._exchanges = [
            (bytes.fromhex(request), bytes.fromhex(expected))
            for request, expected in load.exchanges
        ]
        self._sent = 0
        self._open = 0
        # The one that has rested longest is next, so that all of them are used.
        self._idle: deque[Lane] = deque()
        self._waiting: deque[float] = deque()
        self._ends = False

    async def run(self) -> Measured:
        """Connect, load, wait for the last answers."""
        lanes = await self._connect()
        began = time.perf_counter()
        if self._load.rate is None:
            for lane in lanes:
                self._send(lane, time.perf_counter())
            await asyncio.sleep(self._load.seconds)
        else:
            self._idle.extend(lanes)
            await self._pace(began, self._load.rate)
        self._ends = True
        until = time.perf_counter() + LAST_ANSWER_SECONDS
        while self._open and time.perf_counter() < until:  # noqa: ASYNC110 - cheap, and once
            await asyncio.sleep(TICK_SECONDS)
        took = time.perf_counter() - began
        wrong = self._wrong.total() + self._open + len(self._waiting)
        for lane in set(lanes):
            lane.close()
        await asyncio.wait({lane.closed for lane in lanes}, timeout=1)
        return Measured(self._microseconds, wrong, took, dict(self._wrong), self._refused)

    async def _connect(self) -> list[Lane]:
        loop, load = asyncio.get_running_loop(), self._load
        is_grpc = load.kind == "grpc"

        def lane() -> Lane:
            if is_grpc:
                return CallLane(load.path, load.metadata, self._ended, self._refusals)
            return RestLane(self._ended, self._refusals)

        lanes: list[Lane] = []
        for _ in range(load.connections if is_grpc else load.at_once):
            _, made = await loop.create_connection(lane, load.host, load.port)
            lanes.append(made)
        return [lanes[number % len(lanes)] for number in range(load.at_once)]

    async def _pace(self, began: float, rate: float) -> None:
        due = 0
        while (now := time.perf_counter()) < began + self._load.seconds:
            while due < (now - began) * rate:
                due += 1
                if self._idle:
                    self._send(self._idle.popleft(), now)
                else:
                    self._waiting.append(now)
            await asyncio.sleep(TICK_SECONDS)

    def _send(self, lane: Lane, began: float) -> None:
        request, expected = self._exchanges[self._sent % len(self._exchanges)]
        self._sent += 1
        self._open += 1
        lane.send(request, expected, began, key(self._load.name, self._sent))

    def _ended(self, lane: Lane, began: float, outcome: Outcome) -> None:
        now = time.perf_counter()
        self._open -= 1
        times = self._refused if outcome is Outcome.REFUSED else self._microseconds
        times.append(int((now - began) * 1_000_000))
        if outcome is Outcome.WRONG:
            self._wrong[lane.said] += 1
        if self._waiting:
            self._send(lane, self._waiting.popleft())
        elif self._load.rate is None and not self._ends:
            self._send(lane, now)
        else:
            self._idle.append(lane)


if __name__ == "__main__":
    load = Load(**json.load(sys.stdin))
    json.dump(asdict(uvloop.run(Driver(load).run())), sys.stdout)
