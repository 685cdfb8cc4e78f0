"""The Stripe sandbox: how it is made to misbehave, and what it says of everybody's money."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from cli.services import SANDBOX_KEY

# What goes wrong all the time, each with its probability.
CHARGES, REFUNDS = "/v1/payment_intents*", "/v1/refunds*"
TROUBLE: tuple[dict[str, Any], ...] = (
    {"kind": "lose_answer", "match": {"path": CHARGES}, "probability": 0.1},
    {"kind": "lose_answer", "match": {"path": REFUNDS}, "probability": 0.1},
    {"kind": "lose_request", "probability": 0.03},
    {"kind": "server_error", "probability": 0.03},
    {"kind": "server_error_after", "match": {"method": "POST"}, "probability": 0.03},
    {"kind": "rate_limit", "probability": 0.03},
    {"kind": "delay_answer", "probability": 0.05, "seconds": 2.0},
    # Longer than the shop waits for Stripe.
    {"kind": "delay_answer", "match": {"method": "POST"}, "probability": 0.01, "seconds": 10.0},
    {"kind": "delay_request", "match": {"method": "POST"}, "probability": 0.03, "seconds": 3.0},
    {"kind": "settle_later", "probability": 0.05, "seconds": 2.0},
    {"kind": "settle_later", "probability": 0.02, "seconds": 2.0, "outcome": "failed"},
    {"kind": "drop_event", "probability": 0.3},
    {"kind": "repeat_event", "probability": 0.3, "copies": 2},
    {"kind": "shuffle_events", "probability": 0.5, "seconds": 5.0},
)
LOOK_SECONDS = 1.0
PAGE = 100


@dataclass(frozen=True)
class Charge:
    """What was taken for an order and given back, in minor units."""

    payment_id: str
    received: int
    returned: int

    @property
    def kept(self) -> int:
        """What the shop has of it."""
        return self.received - self.returned


class Bank:
    """The control path of a sandbox, and its API."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=url, timeout=10, headers={"authorization": f"Bearer {SANDBOX_KEY}"}
        )

    async def aclose(self) -> None:
        """Forget the connections."""
        await self._http.aclose()

    async def misbehave(self) -> None:
        """Keep trouble installed, without end: a sandbox that was killed comes back well."""
        while True:
            try:
                answer = await self._http.get("/_sandbox/faults")
                if not answer.json()["faults"]:
                    for fault in TROUBLE:
                        order = {"times": None} | fault
                        answer = await self._http.post("/_sandbox/faults", json=order)
                        assert answer.is_success, answer.text
            except httpx.TransportError:
                pass  # it is dead, or stands still
            await asyncio.sleep(LOOK_SECONDS)

    async def behave(self) -> None:
        """Take all trouble back."""
        (await self._http.delete("/_sandbox/faults")).raise_for_status()

    async def charges(self) -> dict[str, list[Charge]]:
        """The charges of each order: the PaymentIntents for which money was taken."""
        returned: defaultdict[str, int] = defaultdict(int)
        async for refund in self._all("/v1/refunds"):
            if refund["status"] in ("succeeded", "pending"):
                returned[refund["payment_intent"]] += refund["amount"]
        found: defaultdict[str, list[Charge]] = defaultdict(list)
        async for intent in self._all("/v1/payment_intents"):
            if intent["amount_received"]:
                noted = intent["metadata"]
                charge = Charge(
                    noted["payment_id"], intent["amount_received"], returned[intent["id"]]
                )
                found[noted["order_id"]].append(charge)
        return found

    async def _all(self, path: str) -> AsyncIterator[dict[str, Any]]:
        query, more = {"limit": str(PAGE)}, True
        while more:
            answer = await self._http.get(path, params=query)
            page = answer.raise_for_status().json()
            for each in page["data"]:
                yield each
                query["starting_after"] = each["id"]
            more = page["has_more"]
