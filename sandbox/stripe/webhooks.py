"""Webhooks: queued events are signed and sent, at least once, until the receiver says 2xx.

https://docs.stripe.com/webhooks. Events about one PaymentIntent go out one after another, those
about different ones side by side; a failed one is tried again with backoff and holds up nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import sqlite3
import time

import httpx

from sandbox.stripe import errand_runner, events, logs
from sandbox.stripe.account import Account, Call

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 60.0
TIMEOUT_SECONDS = 10.0
SENT_AT_ONCE = 16
# The clock may be advanced from outside, so no sleep is long.
LONGEST_SLEEP_SECONDS = 5.0


def signature(payload: str, secrets: list[str], timestamp: int) -> str:
    """The Stripe-Signature header: one v1 for each secret, over `timestamp.payload`."""
    signed = f"{timestamp}.{payload}".encode()
    sums = [hmac.new(each.encode(), signed, hashlib.sha256).hexdigest() for each in secrets]
    return ",".join([f"t={timestamp}", *(f"v1={each}" for each in sums)])


class Courier:
    """Sends what is due, and runs the errands that are due, until it is cancelled."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)
        self._places = asyncio.Semaphore(SENT_AT_ONCE)
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._log = logs.logger("webhooks")

    async def run(self) -> None:
        try:
            while True:
                self._account.wake.clear()
                self._step()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._account.wake.wait(), self._pause())
        finally:
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)
            await self._client.aclose()

    def _step(self) -> None:
        """Run errands, and start sending for every subject that has something due."""
        try:
            errand_runner.run_due(self._account)
        except Exception:
            self._log.exception("an errand failed")
        due = self._account.store.rows(
            "SELECT DISTINCT subject FROM deliveries WHERE state = 'pending' AND due <= ?",
            self._account.clock.now(),
        )
        for row in due:
            if row["subject"] not in self._busy:
                task = asyncio.create_task(self._send_all(row["subject"]))
                self._busy[row["subject"]] = task

    def _pause(self) -> float:
        """Seconds until something is due that nobody is at work on."""
        now = self._account.clock.now()
        waiting = self._account.store.rows(
            "SELECT due FROM deliveries WHERE state = 'pending' AND due > ? ORDER BY due LIMIT 1",
            now,
        )
        times = [row["due"] for row in waiting]
        errand = errand_runner.next_due(self._account)
        if errand is not None:
            times.append(errand)
        soonest = min([LONGEST_SLEEP_SECONDS, *(float(due) - now for due in times)])
        return max(0.001, soonest)

    async def _send_all(self, subject: str) -> None:
        """Send what is due for one subject, in the order in which it happened."""
        try:
            async with self._places:
                for delivery in self._account.store.rows(
                    "SELECT * FROM deliveries WHERE state = 'pending' AND subject = ? AND due <= ? "
                    "ORDER BY id",
                    *(subject, self._account.clock.now()),
                ):
                    await self._send(delivery)
        except Exception:
            self._log.exception("a delivery failed")
        finally:
            del self._busy[subject]
            self._account.wake.set()

    async def _send(self, delivery: sqlite3.Row) -> None:
        store, webhook = self._account.store, self._account.webhook
        event = store.find("event", delivery["event"])
        if event is None or webhook.url is None:
            store.run("UPDATE deliveries SET state = 'dropped' WHERE id = ?", delivery["id"])
            return
        payload = json.dumps(events.shown(Call(self._account, ""), event), indent=2)
        answer = await self._post(webhook.url, payload, webhook.secrets)
        attempts = delivery["attempts"] + 1
        now = self._account.clock.now()
        delivered = answer.startswith("2")
        state = "delivered" if delivered else "pending" if now < delivery["expires"] else "failed"
        store.run(
            "UPDATE deliveries SET state = ?, attempts = ?, answer = ?, due = ? WHERE id = ?",
            *(state, attempts, answer, now + _backoff(attempts), delivery["id"]),
        )
        self._log.info(
            "event sent", id=event["id"], type=event["type"], answer=answer, attempt=attempts
        )

    async def _post(self, url: str, payload: str, secrets: list[str]) -> str:
        """The receiver's status code, or the kind of failure."""
        # The receiver compares with its own clock, so this is real time.
        header = signature(payload, secrets, int(time.time()))
        headers = {
            "content-type": "application/json; charset=utf-8",
            "stripe-signature": header,
            "user-agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        try:
            response = await self._client.post(url, content=payload, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return type(error).__name__
        return str(response.status_code)


def _backoff(attempts: int) -> float:
    """Seconds until the next try: doubled each time, with some chance in it."""
    wait = min(FIRST_RETRY_SECONDS * 2.0 ** min(attempts - 1, 20), LONGEST_RETRY_SECONDS)
    return wait * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
