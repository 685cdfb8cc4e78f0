"""Giving money back: the amount is set aside first, then Stripe is asked, then it is settled.

Refunds set aside their amounts under the lock of their payment, so they never add up to more than
was captured, however many are made at the same time.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from services.kit import call, logs
from services.kit.db import Database, Row
from services.kit.etags import check_etag
from services.kit.money import to_minor
from services.payment import bookkeeping, due_store, refund_rules, refund_store, rules, store
from services.payment.faults import Faults, Point
from services.payment.gateway import (
    Gateway,
    GatewayError,
    RefusedError,
    Repayment,
    UnreachedError,
)
from services.payment.patience import LEASE_MARGIN, Patience
from shop.payment.v1.payment_pb2 import Refund, RefundPaymentRequest

log = logs.logger("refunds")


class Refunds:
    """Gives money back."""

    def __init__(
        self, database: Database, gateway: Gateway, patience: Patience, faults: Faults
    ) -> None:
        self._db = database
        self._gateway = gateway
        self._patience = patience
        self._faults = faults

    async def give(self, request: RefundPaymentRequest) -> None:
        """Make the refund that a request asks for, or has asked for. Raises what it may."""
        claim = call.current().claim
        refund = None
        if claim is not None:
            async with self._db.connection() as connection:
                refund = await refund_store.find_by_key(connection, call.user_id(), claim.key)
        if refund is None:
            payment, refund = await self._begin(request, claim)
            self._faults.reach(Point.AFTER_REFUND)
            await self._patience.wait_for(self._ask(payment, refund))
        elif claim is not None:
            rules.check_same_request(refund, claim)

    async def _begin(
        self, request: RefundPaymentRequest, claim: call.Claim | None
    ) -> tuple[Row, Row]:
        try:
            self._gateway.check()
        except UnreachedError:
            raise rules.gateway_unavailable() from None
        async with self._db.transaction(keyed=False) as tx:
            payment = await store.lock(tx, UUID(request.id))
            check_etag(request.etag, payment)
            amount = refund_rules.refund_amount(payment, _asked(request, payment))
            payment, refund = await bookkeeping.open_refund(
                tx,
                payment,
                amount,
                request.reason or Refund.REQUESTED_BY_CUSTOMER,
                request.note,
                user_id=call.user_id(),
                idempotency_key=claim.key if claim is not None else None,
                fingerprint=claim.fingerprint if claim is not None else None,
            )
            # Should this process die, the reconciler goes on.
            await due_store.check_within(tx, payment["id"], LEASE_MARGIN)
            return payment, refund

    async def _ask(self, payment: Row, refund: Row) -> None:
        """Ask Stripe for a new refund, and settle it by the answer."""
        try:
            await self.ask(payment, refund)
        except UnreachedError:
            async with self._db.transaction(keyed=False) as tx:
                row = await store.lock(tx, payment["id"])
                await bookkeeping.withdraw_refund(tx, row, refund)
            raise rules.gateway_unavailable() from None
        except GatewayError:
            log.info("refund not answered", refund=str(refund["id"]))

    async def ask(self, payment: Row, refund: Row) -> Row:
        """Ask Stripe for a refund, for which it may have been asked; the payment after that.

        Raises GatewayError when there is no answer.
        """
        try:
            repayment = await self._gateway.refund(
                refund, payment["intent_id"], payment["currency"]
            )
        except RefusedError as refusal:
            async with self._db.transaction(keyed=False) as tx:
                row = await store.lock(tx, payment["id"])
                now = await refund_store.find(tx, refund["id"])
                return await bookkeeping.fail_refund(tx, row, now or refund, refusal.code)
        self._faults.reach(Point.AFTER_REPAYMENT)
        return await self._settle(payment, refund, repayment)

    async def _settle(self, payment: Row, refund: Row, repayment: Repayment) -> Row:
        async with self._db.transaction(keyed=False) as tx:
            row = await store.lock(tx, payment["id"])
            now = await refund_store.find(tx, refund["id"])
            return await bookkeeping.settle_refund(tx, row, now or refund, repayment)

    async def tend(self, payment: Row) -> Row:
        """Bring a captured payment's refunds in line with Stripe's; the payment after that.

        What Stripe never heard of is asked for again, with its key; what must be given back and was
        refused before, too; what was made on Stripe's own pages is noted. Raises GatewayError.
        """
        payment = await self._try_again(payment)
        async with self._db.connection() as connection:
            ours = await refund_store.of_payment(connection, payment["id"])
        told = await self._gateway.repayments(payment["intent_id"], payment["currency"])
        by_id = {each.refund_id: each for each in told}
        by_stripe_id = {each.id: each for each in told}
        for refund in ours:
            known = by_id.get(refund["id"]) or by_stripe_id.get(refund["stripe_id"])
            if known is not None:
                payment = await self._settle(payment, refund, known)
            elif refund["status"] == Refund.PROCESSING:
                payment = await self.ask(payment, refund)
        noted = {refund["id"] for refund in ours} | {refund["stripe_id"] for refund in ours}
        for repayment in told:
            if repayment.refund_id not in noted and repayment.id not in noted:
                payment = await self._adopt(payment, repayment)
        return payment

    async def _try_again(self, payment: Row) -> Row:
        if not payment["give_back"] or not refund_rules.refundable(payment):
            return payment
        async with self._db.transaction(keyed=False) as tx:
            row = await store.lock(tx, payment["id"])
            return await bookkeeping.refund_again(tx, row)

    async def _adopt(self, payment: Row, repayment: Repayment) -> Row:
        if repayment.status in ("failed", "canceled"):
            return payment
        async with self._db.transaction(keyed=False) as tx:
            row = await store.lock(tx, payment["id"])
            return await bookkeeping.adopt_refund(tx, row, repayment)


def _asked(request: RefundPaymentRequest, payment: Any) -> int | None:
    """The amount that a request names; None: all that is left."""
    if not request.HasField("amount"):
        return None
    refund_rules.check_currency(payment, request.amount.currency_code)
    return to_minor(request.amount, "amount")
