"""How customers pay, with all that happens at a till, and how staff gives money back."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.ledger import PATIENCE_SECONDS, PAUSE_SECONDS, Ledger
from tests.visitors import PASSWORD, Person, Visitor, euros

# What a customer pays with, and how often.
CARDS = {
    "visa": 10,
    "mastercard": 3,
    "authenticationRequired": 3,
    "chargeDeclined": 2,
    "chargeDeclinedInsufficientFunds": 1,
}
# What becomes of a 3-D Secure step; "" is a customer who walks away.
DECISIONS = {"approve": 6, "refuse": 2, "": 2}
STEP_SECONDS = 5.0

Payment = dict[str, Any]


def minor(money: dict[str, Any]) -> int:
    """An amount of money that has two decimals, in minor units."""
    return int(money["units"]) * 100 + int(money["nanos"]) // 10_000_000


@dataclass
class Wallet:
    """Pays the orders of one customer, and remembers what was acknowledged."""

    person: Person
    staff: Person
    ledger: Ledger
    chance: random.Random
    # By the order's id: the payment that was told to be through, and minor units given back of it.
    paid: dict[str, str] = field(default_factory=dict)
    refunded: Counter[str] = field(default_factory=Counter)

    async def pay(self, order_id: str) -> None:
        """Try to pay an order; now and then the call is made twice at the same time."""
        (card,) = self.chance.choices(list(CARDS), list(CARDS.values()))
        body = {"order_id": order_id, "payment_method": f"pm_card_{card}"}
        payments = await self.ledger.write_perhaps_twice(
            self.person, "/api/payment/", body, self.chance
        )
        ids = {payment["id"] for payment in payments}
        self.ledger.check(len(ids) <= 1, f"one key made {len(ids)} payments of order {order_id}")
        for payment in payments[:1]:
            self._note(order_id, payment)
            if payment["status"] == "REQUIRES_ACTION":
                await self._authenticate(order_id, payment)

    async def _authenticate(self, order_id: str, payment: Payment) -> None:
        """Go to the bank's page, and come back from it or not."""
        (decision,) = self.chance.choices(list(DECISIONS), list(DECISIONS.values()))
        await asyncio.sleep(self.chance.uniform(0, 1))
        if not decision or not await self._decide(payment["redirect_url"], decision):
            return
        if self.chance.random() < 0.2:
            return  # approved, and then the browser was closed: the shop finds out by itself
        path = f"/api/payment/{payment['id']}/confirm/"
        confirmed = await self.ledger.write(self.person, "POST", path, {})
        if confirmed is not None:
            self._note(order_id, confirmed)

    async def _decide(self, url: str, decision: str) -> bool:
        """Whether the bank has taken a decision; the page may be away."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            try:
                answer = await self.person.http.post(
                    url, data={"decision": decision}, timeout=STEP_SECONDS
                )
            except httpx.TransportError:
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                self.ledger.check(
                    answer.status_code == 303, f"the bank's page answered {answer.status_code}"
                )
                self.ledger.decided[f"3-D Secure: {decision}"] += 1
                return True
        return False

    def _note(self, order_id: str, payment: Payment) -> None:
        self.ledger.decided[f"payment: {payment['status']}"] += 1
        if payment["status"] == "SUCCEEDED":
            self.paid[order_id] = payment["id"]

    async def refund(self) -> None:
        """Have staff give an order's money back: a euro, or whatever is left."""
        if not self.paid:
            return
        order_id = self.chance.choice(sorted(self.paid))
        path = f"/api/payment/{self.paid[order_id]}/refund/"
        body = {"amount": euros(1)} if self.chance.random() < 0.5 else {}
        payment = await self.ledger.write(self.staff, "POST", path, body)
        if payment is not None:
            given = [each for each in payment["refunds"] if each["status"] != "FAILED"]
            total = sum(minor(each["amount"]) for each in given)
            self.refunded[order_id] = max(self.refunded[order_id], total)


async def newcomer(ledger: Ledger, http: httpx.AsyncClient, email: str) -> Person | None:
    """Somebody who signs up, and in. None, with a problem, when that was not decided in time."""
    names = {"email": email, "password": PASSWORD}
    if await ledger.write(Visitor(http), "POST", "/api/users/", names) is None:
        return None
    grant = await ledger.write(Visitor(http), "POST", "/api/auth/login/", names)
    return None if grant is None else Person(http, email, PASSWORD, grant)
