"""The Stripe sandbox as a process of its own, its control path, and a receiver of its webhooks."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import stripe

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk_test_sandbox0123456789"
PATIENCE_SECONDS = 60.0


class Sandbox:
    """A started sandbox. `url` is where the API is; `control` asks its control path."""

    def __init__(self, *options: str, port: int = 0) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.stripe", "--port", str(port), *options],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._listening.wait(PATIENCE_SECONDS):
            self.kill()
            raise AssertionError(f"the sandbox did not start: {''.join(self.lines)}")
        self.url = next(json.loads(line)["url"] for line in self.lines if '"listening"' in line)
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE_SECONDS, trust_env=False)
        self._sdk = stripe.HTTPXClient(timeout=PATIENCE_SECONDS, allow_sync_methods=True)
        eventually(self.answers, "the sandbox answers")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if '"listening"' in line:
                self._listening.set()

    def answers(self) -> bool:
        try:
            return self.http.get("/_sandbox/health").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, key: str = KEY, *, retries: int = 0) -> stripe.StripeClient:
        """The real SDK's client, for sync calls."""
        return stripe.StripeClient(
            key,
            base_addresses={"api": self.url},
            max_network_retries=retries,
            http_client=self._sdk,
        )

    @asynccontextmanager
    async def async_client(self, *, retries: int = 0) -> AsyncIterator[stripe.StripeClient]:
        """The real SDK's client, for async calls."""
        transport = stripe.HTTPXClient(timeout=PATIENCE_SECONDS)
        try:
            yield stripe.StripeClient(
                KEY,
                base_addresses={"api": self.url},
                max_network_retries=retries,
                http_client=transport,
            )
        finally:
            await transport.close_async()  # type: ignore[no-untyped-call]

    def control(self, method: str, path: str, order: dict[str, Any] | None = None) -> Any:
        response = self.http.request(method, f"/_sandbox{path}", json=order)
        assert response.status_code == 200, response.text
        return response.json()

    def fault(self, kind: str, **order: Any) -> None:
        self.control("POST", "/faults", {"kind": kind, **order})

    def advance(self, seconds: float) -> None:
        self.control("POST", "/clock", {"advance": seconds})

    def seen(self) -> list[dict[str, Any]]:
        requests: list[dict[str, Any]] = self.control("GET", "/requests")["requests"]
        return requests

    def reset(self) -> None:
        self.control("PUT", "/webhook", {"url": None})
        self.control("POST", "/reset")

    def kill(self) -> None:
        self.process.kill()
        self._wait()

    def stop(self) -> int:
        """SIGTERM; answers the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def _wait(self) -> int:
        status = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()
        if hasattr(self, "http"):
            self.http.close()
            self._sdk.close()  # type: ignore[no-untyped-call]
        return status


@dataclass
class Delivery:
    """A webhook as it arrived, byte for byte."""

    body: bytes
    signature: str

    @property
    def event(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """What a shop's webhook endpoint saw; `answers` are the next status codes, then 200."""

    url: str
    deliveries: list[Delivery] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def types(self) -> list[str]:
        return [each.event["type"] for each in self.deliveries]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port, in a thread."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.deliveries.append(Delivery(body, self.headers["stripe-signature"]))
            self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}/webhooks")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition()` holds."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until, f"never happened: {what}"
        time.sleep(0.02)
