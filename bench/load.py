"""One load on one address for some seconds, in a process of its own.

It reads a `Load` as JSON from standard input and writes a `Measured` as JSON to standard output.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Literal

import uvloop

from bench.http1 import Gets
from bench.http2 import Calls, Exchange

AT_ONCE = 16


@dataclass(frozen=True)
class Load:
    """What to send where; `exchanges` are requests with what their answers have to hold, as hex."""

    kind: Literal["grpc", "rest"]
    host: str
    port: int
    path: str
    exchanges: list[tuple[str, str]]
    seconds: float


@dataclass(frozen=True)
class Measured:
    """How it went: the time of each answer, how many were not as expected, and how long it took."""

    microseconds: list[int]
    wrong: int
    seconds: float


async def run(load: Load) -> Measured:
    """Send the load: 16 calls at once on one connection, or 16 connections."""
    exchanges = [
        Exchange(bytes.fromhex(body), bytes.fromhex(expected)) for body, expected in load.exchanges
    ]
    loop = asyncio.get_running_loop()
    clients: list[Calls | Gets] = []
    began = time.perf_counter()
    if load.kind == "grpc":
        _, calls = await loop.create_connection(
            lambda: Calls(load.path, exchanges, AT_ONCE), load.host, load.port
        )
        clients.append(calls)
    else:
        for number in range(AT_ONCE):
            first = number * len(exchanges) // AT_ONCE
            _, gets = await loop.create_connection(
                lambda first=first: Gets(load.host, exchanges, first),  # type: ignore[misc]
                load.host,
                load.port,
            )
            clients.append(gets)
    await asyncio.wait({client.closed for client in clients}, timeout=load.seconds)
    for client in clients:
        client.finish()
    await asyncio.wait({client.closed for client in clients}, timeout=5)
    return Measured(
        [time for client in clients for time in client.microseconds],
        sum(client.wrong for client in clients),
        time.perf_counter() - began,
    )


if __name__ == "__main__":
    json.dump(asdict(uvloop.run(run(Load(**json.load(sys.stdin))))), sys.stdout)
