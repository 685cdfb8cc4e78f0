"""The reconciler: asks Stripe about what is open, and settles it.

Any number of processes may run it: a payment that is looked at is leased to one. What it does may
be done twice, or be cut off anywhere.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from services.kit import failures, logs
from services.kit.db import Database, Row
from services.payment import due_store, pauses
from services.payment.gateway import GatewayError
from services.payment.inquiries import Inquiries
from services.payment.refunds import Refunds
from services.payment.report import Report

log = logs.logger("reconciler")

POLL_SECONDS = 1.0
AT_ONCE = 8
# What a dead process held waits for so long; looking twice at a payment does no harm.
LEASE = timedelta(seconds=15)


class Reconciler:
    """Keeps payments in line with Stripe."""

    def __init__(self, database: Database, inquiries: Inquiries, refunds: Refunds) -> None:
        self._db = database
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

    async def settle_due(self, report: Report) -> int:
        """Look at some payments that are due; how many they were."""
        async with self._db.connection() as connection:
            due = await due_store.lease_due(connection, AT_ONCE, LEASE)
        await self._look_at_all(due, report)
        return len(due)

    async def settle_open(self, report: Report) -> None:
        """Look at everything that is open, due or not, whoever else may just look at it."""
        last = UUID(int=0)
        while True:
            async with self._db.connection() as connection:
                some = await due_store.lease_open(connection, last, AT_ONCE, LEASE)
            if not some:
                break
            await self._look_at_all(some, report)
            last = max(payment["id"] for payment in some)
        async with self._db.connection() as connection:
            report.open = await due_store.unsettled(connection)
            report.owed = await due_store.owed(connection)

    async def _look_at_all(self, payments: list[Row], report: Report) -> None:
        afters = await asyncio.gather(*(self._look_at(payment) for payment in payments))
        for before, after in zip(payments, afters, strict=True):
            report.looked_at += 1
            report.unanswered += after is None
            report.settled += after is not None and after["status"] != before["status"]

    async def _look_at(self, payment: Row) -> Row | None:
        """Tend a payment, and say when it is looked at again; None when that fails."""
        after = None
        pause: timedelta | None = pauses.pause(payment["checks"])
        try:
            after = await self._tend(payment)
            pause = pauses.next_pause(after)
        except GatewayError as error:
            log.info("no answer", payment=str(payment["id"]), error=type(error).__name__)
        except Exception as error:
            failures.report(log, "not tended", error, payment=str(payment["id"]))
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
