"""Walks through what happened at Stripe of late, for what nobody told us.

Two ways: PaymentIntents, among which may be charges that we do not know, and events of refunds and
disputes, whose webhooks may have been lost. Any number of processes may walk: a way is leased to
one at a time. What a walk does may be done twice, or be cut off anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from services.kit import failures, logs
from services.kit.db import Database, Row
from services.kit.errors import ServiceError
from services.kit.ids import uuid7
from services.payment import (
    bookkeeping,
    due_store,
    event_store,
    gateway,
    news,
    rules,
    store,
    webhooks,
)
from services.payment.gateway import Gateway, GatewayError, Intent
from services.payment.inquiries import CLOCK_SKEW
from services.payment.report import Report

log = logs.logger("walks")

INTENTS, NEWS = "intents", "news"
# What changes a payment after it was captured. Stripe takes up to 20 names, and no wildcards.
EVENT_TYPES = (
    "charge.refunded",
    "charge.refund.updated",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
)
POLL_SECONDS = 1.0
LEASE = timedelta(minutes=5)
PAUSE = timedelta(seconds=30)
# How far back the first walk goes, and how much of the last one each walk repeats.
FIRST = timedelta(days=2)
OVERLAP = timedelta(minutes=15)
PAGE = 100

Seen = TypeVar("Seen")


class Walks:
    """Finds what happened at Stripe without our knowing."""

    def __init__(self, database: Database, gateway: Gateway, wake: Callable[[], None]) -> None:
        """`wake` has the reconciler look at what is due."""
        self._db = database
        self._gateway = gateway
        self._wake = wake

    async def forever(self) -> None:
        """Walk whenever it is time to; never returns."""
        while True:
            await self.walk(Report())
            await asyncio.sleep(POLL_SECONDS)

    async def walk(self, report: Report, *, at_once: bool = False) -> None:
        """Go those ways for which it is time, or `at_once` both."""
        intents, events = self._gateway.intents, self._gateway.events
        await self._go(
            INTENTS, lambda since: intents(since, None), self._compare, report, at_once=at_once
        )
        await self._go(
            NEWS, lambda since: events(since, EVENT_TYPES), self._hear, report, at_once=at_once
        )

    async def _go(
        self,
        way: str,
        listing: Callable[[datetime], AsyncGenerator[Seen, None]],
        handle: Callable[[list[Seen], Report], Awaitable[None]],
        report: Report,
        *,
        at_once: bool,
    ) -> None:
        """Handle page by page what there is since the last walk."""
        async with self._db.connection() as connection:
            leased = await event_store.lease_walk(connection, way, LEASE, at_once=at_once)
        if leased is None:
            return
        began = datetime.now(UTC)
        done = leased["done_until"]
        since = began - FIRST if done is None else done - OVERLAP
        try:
            page: list[Seen] = []
            async with aclosing(listing(since - CLOCK_SKEW)) as found:
                async for each in found:
                    page.append(each)
                    if len(page) == PAGE:
                        await handle(page, report)
                        page = []
            await handle(page, report)
            done = began
        except GatewayError as error:
            report.cut_short = True
            log.info("a walk was cut short", way=way, error=type(error).__name__)
        finally:
            async with self._db.connection() as connection:
                await event_store.end_walk(connection, way, done, PAUSE)

    # --- events ---------------------------------------------------------------------------------

    async def _hear(self, told: list[Mapping[str, Any]], report: Report) -> None:
        """Give these events their effects, unless webhooks have brought them."""
        ids = [str(each.get("id")) for each in told]
        async with self._db.connection() as connection:
            known = await event_store.known(connection, ids)
        for id, each in zip(ids, told, strict=True):
            if id in known:
                continue
            try:
                report.heard += await news.take(self._db, webhooks.event(each))
            except ServiceError as error:
                failures.report(log, "an event that cannot be read", error, id=id)
        self._wake()

    # --- PaymentIntents -------------------------------------------------------------------------

    async def _compare(self, intents: list[Intent], report: Report) -> None:
        """Adopt, have looked at, or leave alone each of these PaymentIntents.

        They are not settled here: whoever looks at a payment also asks what of it was given back.
        """
        report.walked += len(intents)
        ours = {intent.id: intent for intent in intents if intent.payment_id is not None}
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
                self._wake()

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
        self._wake()
        return True


def _is_attended(payment: Row) -> bool:
    """Whether a call waits for Stripe's answer, which will settle the payment."""
    until = payment["attempt_until"]
    return payment["status"] == rules.PROCESSING and until is not None and until > datetime.now(UTC)
