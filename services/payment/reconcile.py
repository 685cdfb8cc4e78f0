"""The reconciler: settles what is open, and finds what was charged without our knowing.

Any number of processes may run it: a payment that is looked at, and a walk, are leased to one. What
it does may be done twice, or be cut off anywhere.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from services.kit import failures, logs
from services.kit.db import Database, Row
from services.kit.ids import uuid7
from services.payment import bookkeeping, due_store, event_store, gateway, pauses, rules, store
from services.payment.gateway import Gateway, GatewayError, Intent
from services.payment.inquiries import CLOCK_SKEW, Inquiries
from services.payment.refunds import Refunds
from shop.payment.v1.payment_pb2 import Payment

log = logs.logger("reconciler")

POLL_SECONDS = 1.0
AT_ONCE = 8
# What a dead process held waits for so long; looking twice at a payment does no harm.
LEASE = timedelta(seconds=15)
WALK = "intents"
WALK_LEASE = timedelta(minutes=5)
WALK_PAUSE = timedelta(seconds=30)
# How far back the first walk goes, and how much of the last one each walk repeats.
FIRST_WALK = timedelta(days=2)
OVERLAP = timedelta(minutes=15)
PAGE = 100
STRAY_NOTE = "Charged twice."


@dataclass
class Report:
    """What one run did: payments looked at, and by status those that are still open after it."""

    looked_at: int = 0
    settled: int = 0
    walked: int = 0
    adopted: int = 0
    open: dict[str, int] = field(default_factory=dict)


class Reconciler:
    """Keeps payments in line with Stripe."""

    def __init__(
        self, database: Database, gateway: Gateway, inquiries: Inquiries, refunds: Refunds
    ) -> None:
        self._db = database
        self._gateway = gateway
        self._inquiries = inquiries
        self._refunds = refunds
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look at once at what is due."""
        self._wake.set()

    async def forever(self) -> None:
        """Look at what is due, then sleep until woken or the next poll; never returns."""
        while True:
            self._wake.clear()  # before looking: what becomes due while we look wakes us again
            if not await self.settle_due(Report()):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)

    async def walk_forever(self) -> None:
        """Walk whenever it is time to; never returns. A long walk holds up no look."""
        while True:
            await self.walk(Report())
            await asyncio.sleep(POLL_SECONDS)

    async def run_once(self) -> Report:
        """Walk, and look at everything that is open, due or not."""
        report = Report()
        async with self._db.connection() as connection:
            await event_store.walk_now(connection, WALK)
        await self.walk(report)
        async with self._db.connection() as connection:
            number = await due_store.check_all(connection)
        while report.looked_at < number and await self.settle_due(report):
            pass
        async with self._db.connection() as connection:
            unsettled = await due_store.unsettled(connection)
        report.open = {Payment.Status.Name(status): each for status, each in unsettled.items()}
        return report

    # --- what is open ---------------------------------------------------------------------------

    async def settle_due(self, report: Report) -> int:
        """Look at some payments that are due; how many they were."""
        async with self._db.connection() as connection:
            due = await due_store.lease_due(connection, AT_ONCE, LEASE)
        afters = await asyncio.gather(*(self._look_at(payment) for payment in due))
        report.looked_at += len(due)
        report.settled += sum(
            before["status"] != after["status"] for before, after in zip(due, afters, strict=True)
        )
        return len(due)

    async def _look_at(self, payment: Row) -> Row:
        """Tend a payment, and say when it is looked at again; it is as it was when that fails."""
        try:
            after = await self._tend(payment)
            pause = pauses.next_pause(after)
        except GatewayError as error:
            log.info("no answer", payment=str(payment["id"]), error=type(error).__name__)
            after, pause = payment, pauses.pause(payment["checks"])
        except Exception as error:
            failures.report(log, "not tended", error, payment=str(payment["id"]))
            after, pause = payment, pauses.pause(payment["checks"])
        with suppress(Exception):  # the lease runs out by itself
            async with self._db.connection() as connection:
                await due_store.schedule(connection, payment, pause)
        return after

    async def _tend(self, payment: Row) -> Row:
        """Bring a payment as far as it can be brought now. Raises GatewayError."""
        if not payment["captured"]:
            payment = await self._inquiries.ask(payment)
        if payment["captured"]:  # what was captured just now may have been given back already
            payment = await self._refunds.tend(payment)
        return payment

    # --- what happened at Stripe ----------------------------------------------------------------

    async def walk(self, report: Report) -> None:
        """Compare the recent PaymentIntents with our payments, if it is time to."""
        async with self._db.connection() as connection:
            leased = await event_store.lease_walk(connection, WALK, WALK_LEASE)
        if leased is None:
            return
        began = datetime.now(UTC)
        since = began - FIRST_WALK
        if leased["done_until"] is not None:
            since = leased["done_until"] - OVERLAP
        done = leased["done_until"]
        try:
            batch: list[Intent] = []
            async with aclosing(self._gateway.intents(since - CLOCK_SKEW, None)) as intents:
                async for intent in intents:
                    batch.append(intent)
                    if len(batch) == PAGE:
                        await self._compare(batch, report)
                        batch = []
            await self._compare(batch, report)
            done = began
        except GatewayError as error:
            log.info("the walk was cut short", error=type(error).__name__)
        finally:
            async with self._db.connection() as connection:
                await event_store.end_walk(connection, WALK, done, WALK_PAUSE)

    async def _compare(self, intents: list[Intent], report: Report) -> None:
        """Adopt, have looked at, or leave alone each of these PaymentIntents.

        They are not settled here: whoever looks at a payment also asks what of it was given back.
        """
        ours = {intent.id: intent for intent in intents if intent.payment_id is not None}
        report.walked += len(intents)
        if not ours:
            return
        ids = [intent.payment_id for intent in ours.values() if intent.payment_id is not None]
        async with self._db.connection() as connection:
            payments = await store.find_many(connection, ids)
        for intent in ours.values():
            payment = payments.get(intent.payment_id) if intent.payment_id else None
            if payment is None or payment["intent_id"] not in (None, intent.id):
                if intent.status == gateway.SUCCEEDED:
                    report.adopted += await self._adopt(intent, payment)
            elif rules.settle(payment, intent) and not _is_attended(payment):
                async with self._db.connection() as connection:
                    await due_store.check_now(connection, intent.id, payment_id=payment["id"])
                self.wake()

    async def _adopt(self, intent: Intent, payment: Row | None) -> bool:
        """Book a charge that no payment of ours stands for; whether it was new.

        The order service says whether the order can still be placed by it. A second charge of one
        payment is given back.
        """
        if not intent.captured or intent.order_id is None or intent.user_id is None:
            log.error("a charge that cannot be booked", intent=intent.id)
            return False
        values: dict[str, Any] = {
            "id": intent.payment_id if payment is None else uuid7(),
            "order_id": intent.order_id,
            "user_id": intent.user_id,
            "amount": intent.captured,
            "currency": intent.currency,
            "payment_method": "",
            "return_url": "",
            "idempotency_key": None,
            "fingerprint": None,
            "intent_id": intent.id,
            "intent_status": intent.status,
            "captured": intent.captured,
            "give_back": False,
        }
        async with self._db.transaction(keyed=False) as tx:
            await store.lock_order(tx, intent.order_id)
            if await store.find_by_intent(tx, intent.id) is not None:
                return False
            adopted = None
            if payment is None:
                adopted = await store.adopt(tx, values)
            if adopted is not None:
                await bookkeeping.OUTBOX.add(tx, bookkeeping.MARK_PAID, adopted["id"].bytes)
            else:
                adopted = await store.adopt(tx, values | {"give_back": True})
                if adopted is None:
                    return False
                await bookkeeping.refund_again(tx, adopted)
        log.error("a charge without a payment", intent=intent.id, payment=str(adopted["id"]))
        self.wake()
        return True


def _is_attended(payment: Row) -> bool:
    """Whether a call waits for Stripe's answer, which will settle the payment."""
    until = payment["attempt_until"]
    return payment["status"] == rules.PROCESSING and until is not None and until > datetime.now(UTC)
