"""What follows a commit of ours at the order service: it hears of money taken and given back.

Every delivery may come twice, late, and in any order with the others.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from grpc.aio import AioRpcError

from services.kit import clients, logs, outbox
from services.kit.db import Database, Row
from services.kit.money import from_minor
from services.payment import bookkeeping, rules, store
from services.payment.faults import Faults, Point
from shop.errors.v1 import reason_pb2
from shop.errors.v1.reason_pb2 import Reason
from shop.order.v1 import settlement_pb2, settlement_pb2_grpc
from shop.order.v1.settlement_pb2 import MarkPaidResponse

log = logs.logger("follow-ups")

LONGEST_NOTE = 500


class FollowUps:
    """Delivers the outbox."""

    def __init__(
        self,
        database: Database,
        settlements: settlement_pb2_grpc.SettlementServiceStub,
        wake: Callable[[], None],
        faults: Faults,
    ) -> None:
        """`wake` has the reconciler look at what is to be given back."""
        self._db = database
        self._settlements = settlements
        self._wake = wake
        self._faults = faults

    def relay(self) -> outbox.Relay:
        """What delivers, to be run in the background."""
        topics = {
            bookkeeping.MARK_PAID: self.mark_paid,
            bookkeeping.MARK_PAYMENT_FAILED: self.mark_payment_failed,
            bookkeeping.MARK_REFUNDED: self.mark_refunded,
        }
        return outbox.Relay(self._db, bookkeeping.OUTBOX, topics)

    async def mark_paid(self, payload: bytes) -> None:
        """Tell that money was captured; give it back when the order cannot be placed."""
        payment = await self._read(payload)
        request = settlement_pb2.MarkPaidRequest(
            order_id=str(payment["order_id"]),
            payment_id=str(payment["id"]),
            amount=from_minor(payment["captured"], payment["currency"]),
        )
        try:
            answer = await self._settlements.MarkPaid(request)
            self._faults.reach(Point.AFTER_MARK_PAID)
        except AioRpcError as error:
            reason = _reason(error)
            if reason == reason_pb2.REASON_AMOUNT_MISMATCH:
                await self._review(payment)
            elif reason == reason_pb2.REASON_RESOURCE_NOT_FOUND:
                await self._give_back(payment)
            else:
                raise
        else:
            if answer.outcome == MarkPaidResponse.REFUND:
                await self._give_back(payment)

    async def mark_payment_failed(self, payload: bytes) -> None:
        """Tell that a payment took no money."""
        payment = await self._read(payload)
        note = payment["failure_message"] or rules.FAILURE_MESSAGES[rules.NOT_CONFIRMED]
        request = settlement_pb2.MarkPaymentFailedRequest(
            order_id=str(payment["order_id"]),
            payment_id=str(payment["id"]),
            note=note[:LONGEST_NOTE],
        )
        await self._tell(self._settlements.MarkPaymentFailed(request))

    async def mark_refunded(self, payload: bytes) -> None:
        """Tell how much of a payment was given back so far."""
        payment = await self._read(payload)
        request = settlement_pb2.MarkRefundedRequest(
            order_id=str(payment["order_id"]),
            payment_id=str(payment["id"]),
            refunded_total=from_minor(payment["refunded"], payment["currency"]),
            note=(payment["give_back_note"] or payment["refunds"][-1]["note"])[:LONGEST_NOTE],
        )
        await self._tell(self._settlements.MarkRefunded(request))

    async def _tell(self, telling: object) -> None:
        """Wait for a call; what the order service cannot make anything of is only logged."""
        try:
            await telling  # type: ignore[misc]
        except AioRpcError as error:
            reason = _reason(error)
            if reason not in (
                reason_pb2.REASON_RESOURCE_NOT_FOUND,
                reason_pb2.REASON_AMOUNT_MISMATCH,
            ):
                raise
            log.warning("the order does not know its payment", reason=Reason.Name(reason))

    async def _give_back(self, payment: Row) -> None:
        async with self._db.transaction(keyed=False) as tx:
            row = await store.lock(tx, payment["id"])
            await bookkeeping.give_back(tx, row, bookkeeping.NOT_PLACED_NOTE)
        self._wake()

    async def _review(self, payment: Row) -> None:
        async with self._db.transaction(keyed=False) as tx:
            row = await store.lock(tx, payment["id"])
            if row["status"] == rules.SUCCEEDED:
                changes = {"status": rules.REVIEW, "failure_code": "amount_mismatch"}
                await bookkeeping.change(tx, row, changes)

    async def _read(self, payload: bytes) -> Row:
        async with self._db.connection() as connection:
            return await store.get(connection, UUID(bytes=payload))


def _reason(error: AioRpcError) -> Reason.ValueType | None:
    refusal = clients.refusal(error)
    return None if refusal is None else refusal.reason
