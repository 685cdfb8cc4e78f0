"""Asking Stripe what has become of a payment, and settling it by the answer; never charging."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from services.kit import logs
from services.kit.db import Database, Row
from services.payment import bookkeeping, due_store, gateway, pauses, rules, store
from services.payment.faults import Faults, Point
from services.payment.gateway import Gateway, Intent, KeyUsedError, RefusedError

log = logs.logger("inquiries")

# Between our clock and Stripe's.
CLOCK_SKEW = timedelta(minutes=5)
# How long after it was sent a request may still begin to be executed.
LONGEST_JOURNEY = timedelta(minutes=10)


class Inquiries:
    """Asks about payments."""

    def __init__(
        self,
        database: Database,
        gateway: Gateway,
        faults: Faults,
        *,
        action_seconds: float,
        repeat_seconds: float,
    ) -> None:
        """`action_seconds` is how long a customer gets for their 3-D Secure step.

        `repeat_seconds` is how long a caller gets to repeat a call that was cut off, before a
        payment that Stripe does not know is given up.
        """
        self._db = database
        self._gateway = gateway
        self._faults = faults
        self._action_time = timedelta(seconds=action_seconds)
        self._repeat_time = timedelta(seconds=repeat_seconds)

    async def settle(self, payment: Row, intent: Intent, *, is_new: bool = False) -> Row:
        """Take note of what Stripe says of a payment; the payment after that.

        `is_new`: Stripe has just made the intent, so nothing else can have happened to it; what is
        captured needs no other look. Otherwise the look that is due stays due: some of an older
        intent may have been given back, and only the reconciler asks for that.
        """
        async with self._db.transaction(keyed=False) as tx:
            row = await store.lock(tx, payment["id"])
            after = await bookkeeping.change(tx, row, rules.settle(row, intent))
            if after["status"] == rules.REVIEW and after["give_back"]:
                after = await bookkeeping.change(tx, after, rules.reviewed(after, intent))
            if is_new:
                await due_store.schedule(tx, payment, pauses.next_pause(after))
            return after

    async def fail(self, payment: Row, code: str, message: str = "") -> Row:
        """Take note that a payment took no money; the payment after that."""
        async with self._db.transaction(keyed=False) as tx:
            row = await store.lock(tx, payment["id"])
            changes = rules.failed(code, message) if row["status"] in rules.OPEN else {}
            after = await bookkeeping.change(tx, row, changes)
            await due_store.schedule(tx, payment, pauses.next_pause(after))
            return after

    async def ask(self, payment: Row) -> Row:
        """Settle a payment by what Stripe says of it now. Raises GatewayError.

        What must not be paid any more is cancelled.
        """
        if not payment["intent_id"]:
            return await self._ask_unknown(payment)
        intent = await self._gateway.retrieve(payment["intent_id"])
        self._faults.reach(Point.AFTER_INQUIRY)
        if self._is_over(payment) and intent.status not in gateway.ENDED:
            intent = await self._cancel(intent)
        return await self.settle(payment, intent)

    def _is_over(self, payment: Row) -> bool:
        """Whether nobody should go on with a payment."""
        waited = datetime.now(UTC) - payment["create_time"]
        return (
            payment["give_back"]
            or payment["status"] in rules.DEAD
            or (payment["status"] == rules.REQUIRES_ACTION and waited > self._action_time)
        )

    async def _cancel(self, intent: Intent) -> Intent:
        try:
            return await self._gateway.cancel(intent.id)
        except RefusedError as error:  # it is just being paid, for example
            log.info("not cancelled", intent=intent.id, code=error.code)
            return error.intent or await self._gateway.retrieve(intent.id)

    async def _ask_unknown(self, payment: Row) -> Row:
        """Ask about a payment of which no answer ever came."""
        now = datetime.now(UTC)
        if payment["attempt_until"] is not None and payment["attempt_until"] > now:
            return payment  # somebody waits for the answer
        intent = await self.find(payment)
        if intent is None and payment["attempt_time"] < now - self._repeat_time:
            return await self._fence(payment)
        self._faults.reach(Point.AFTER_INQUIRY)
        return payment if intent is None else await self.settle(payment, intent)

    async def find(self, payment: Row) -> Intent | None:
        """The PaymentIntent that was made for a payment, by what we noted at it."""
        since = payment["create_time"] - CLOCK_SKEW
        until = payment["attempt_time"] + LONGEST_JOURNEY + CLOCK_SKEW
        found = None
        async with aclosing(self._gateway.intents(since, until)) as intents:
            async for intent in intents:
                if intent.payment_id == payment["id"]:
                    if intent.captured:
                        return intent
                    found = found or intent
        return found

    async def _fence(self, payment: Row) -> Row:
        """Settle a payment that Stripe does not know: use up its key, so that nothing can come."""
        try:
            intent = await self._gateway.fence(payment)
        except KeyUsedError:
            # A request did arrive and made no intent, or none that is listed yet.
            if payment["attempt_time"] > datetime.now(UTC) - LONGEST_JOURNEY:
                return payment
            return await self.fail(payment, rules.NOT_RECEIVED)
        except RefusedError as error:
            return await self.fail(payment, error.code, error.message)
        return await self.settle(payment, intent)
