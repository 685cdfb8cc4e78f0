"""Starts the peers, and knows how to ask them what the shop is asked.

Both get as many processes as the machine has cores, the number that their own documentation names.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import jwt

from bench import http1, pages
from bench.load import Load
from bench.pages import PAGE
from bench.shop import Shop
from bench.shop_loads import LINES, REQUESTS, Goods, gets, load, order_of
from cli.programs import die_with_parent
from cli.topology import free_port

CORES = os.cpu_count() or 1
FASTAPI, DRF = "FastAPI", "DRF"
SCHEMAS = {FASTAPI: "fastapi", DRF: "drf"}
# How each of them is deployed, as it is told to readers too.
COMMANDS = {
    FASTAPI: f"-m uvicorn bench.peers.fastapi_shop:app --workers {CORES} --loop uvloop"
    " --http httptools --timeout-keep-alive 75 --no-access-log --log-level warning --port {port}",
    DRF: f"-m gunicorn bench.peers.drf_shop:application --workers {CORES} --threads 4"
    " --keep-alive 75 --log-level warning --bind 127.0.0.1:{port}",
}
START_SECONDS = 30


@dataclass(frozen=True)
class Peer:
    """A running peer."""

    name: str
    address: str
    process: subprocess.Popen[bytes]
    secret: str

    @property
    def schema(self) -> str:
        """Where its tables are."""
        return SCHEMAS[self.name]


@asynccontextmanager
async def running(shop: Shop, name: str) -> AsyncIterator[Peer]:
    """A peer with its own copy of the shop's data."""
    owner = await asyncpg.connect(shop.owner_url)
    template = Path(__file__).with_name("schema.sql").read_text()
    await owner.execute(template.format(schema=SCHEMAS[name]))
    for table in ("users", "products", "variants"):
        await owner.execute(f"VACUUM (ANALYZE) {SCHEMAS[name]}.{table}")
    await owner.close()
    port, secret = free_port(), secrets.token_hex(32)
    command = COMMANDS[name].format(port=port).split()
    process = _start(command, PEER_DATABASE_URL=shop.owner_url, PEER_SECRET=secret)
    try:
        await asyncio.to_thread(_wait, f"http://127.0.0.1:{port}/api/products/?page_size=1")
        yield Peer(name, f"127.0.0.1:{port}", process, secret)
    finally:
        process.terminate()
        process.wait(15)


def _start(command: list[str], **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | environment,
        preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - no thread holds a lock
    )


def _wait(url: str) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - it is http
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


async def loads(peer: Peer, shop: Shop, some: Goods) -> dict[str, Load]:
    """What the peer is asked, by the name for tables."""
    luck = random.Random(peer.name)
    expires = int(time.time()) + 3600
    tokens = [
        jwt.encode({"sub": who.user_id, "exp": expires}, peer.secret, "HS256")
        for who in shop.customers
    ]
    orders = [order_of(luck, some, tokens[number % len(tokens)]) for number in range(REQUESTS)]
    paths = await asyncio.to_thread(pages.walk, peer.address)
    lists = [(http1.request("GET", path), last) for path, last in paths]
    return {
        f"GetProduct, {peer.name}": load("rest", peer.address, gets(some.popular)),
        f"ListProducts of {PAGE}, {peer.name}": load("rest", peer.address, lists),
        f"CreateOrder of {LINES}, {peer.name}": load("rest", peer.address, orders),
    }
