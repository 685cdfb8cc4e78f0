"""An order is watched over REST while the order service dies: no event is lost or told twice."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.e2e.orders import ordered
from tests.faults.inside import part
from tests.faults.traffic import PATIENCE_SECONDS, until
from tests.visitors import Person, Shop, answered

LONGEST_CALL_SECONDS = 5.0


@dataclass
class Watcher:
    """A client that resumes its stream after the last event it has, until the order is final."""

    who: Person
    path: str
    sequences: list[int] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    beats: int = 0
    # How streams ended: the cause that was told, or "cut off".
    ends: list[str] = field(default_factory=list)

    async def follow(self) -> None:
        """Watch to the end."""
        while "ORDER_FINAL" not in self.ends:
            self.ends.append(await self._stream())
            await asyncio.sleep(0.1)

    async def _stream(self) -> str:
        query = {"after_sequence": self.sequences[-1] if self.sequences else 0}
        signed = {"authorization": f"Bearer {self.who.token}"}
        try:
            async with self.who.http.stream(
                "GET", self.path, params=query, headers=signed
            ) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data:") and (cause := self._take(json.loads(line[5:]))):
                        return cause
        except httpx.TransportError:
            pass
        return "cut off"

    def _take(self, message: dict[str, Any]) -> str:
        """Note a message; the cause of the end, if it is that."""
        if event := message.get("event"):
            self.sequences.append(event["sequence"])
            self.statuses.append(event["to_status"])
        self.beats += "heartbeat" in message
        return str(message.get("end", {}).get("cause", ""))


async def test_a_client_that_resumes_sees_every_event_once(shop: Shop) -> None:
    ada = await shop.sign_up()
    order = await ordered(shop, ada)
    path = f"/api/orders/{order['id']}/"
    watcher = Watcher(ada, f"{path}watch/")
    following = asyncio.create_task(watcher.follow())

    async def seen(status: str) -> None:
        await until(lambda: status in watcher.statuses, PATIENCE_SECONDS)

    async def well() -> bool:
        return (await ada.get(path)).is_success

    async def hit(number: signal.Signals) -> None:
        before, ends = part(shop, "services.order"), len(watcher.ends)
        before.send(number)
        await until(lambda: len(watcher.ends) > ends, PATIENCE_SECONDS)
        await until(well, PATIENCE_SECONDS)

    try:
        await seen("AWAITING_PAYMENT")
        # Longer than any call lasts, so that it is a stream, and shown to be alive.
        beats = watcher.beats
        await until(lambda: watcher.beats > beats + LONGEST_CALL_SECONDS, PATIENCE_SECONDS)
        assert watcher.ends == []

        await hit(signal.SIGKILL)
        assert set(watcher.ends) == {"cut off"}
        card = {"order_id": order["id"], "payment_method": "pm_card_visa"}
        payment = answered(await ada.post("/api/payment/", card))
        await seen("PAID")
        answered(await shop.staff.put(path, {"status": "FULFILLING"}))

        await hit(signal.SIGTERM)
        assert "RECONNECT" in watcher.ends
        answered(await shop.staff.put(path, {"status": "SHIPPED"}))
        await seen("SHIPPED")
        answered(await shop.staff.post(f"/api/payment/{payment['id']}/refund/", {}))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await following
    finally:
        following.cancel()
    history = answered(await ada.get(f"{path}events/"))["events"]
    assert watcher.sequences == [event["sequence"] for event in history]
    assert watcher.statuses[-4:] == ["PAID", "FULFILLING", "SHIPPED", "REFUNDED"]
    assert watcher.ends[-1] == "ORDER_FINAL"
