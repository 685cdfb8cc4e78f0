"""SettlementService: what payment tells of an order's money, in any order, however often."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from google.protobuf.empty_pb2 import Empty

from services.kit.db import Database, Row, Transaction
from services.kit.money import to_minor
from services.order import follow_ups, rules, settlement_store, store
from services.order.confirmation import format_amount
from services.order.faults import Faults, Point
from services.order.store import Event
from shop.order.v1 import settlement_pb2, settlement_pb2_grpc
from shop.order.v1.order_pb2 import OrderEvent

FAILED_NOTE = "A payment failed."
LATE_NOTE = "A payment came that the order cannot take any more: it is given back."


class SettlementService(settlement_pb2_grpc.SettlementServiceServicer):
    """Takes note of captured, failed and refunded payments."""

    def __init__(self, database: Database, faults: Faults) -> None:
        self._db = database
        self._faults = faults

    async def MarkPaid(
        self, request: settlement_pb2.MarkPaidRequest, context: Any
    ) -> settlement_pb2.MarkPaidResponse:
        amount = to_minor(request.amount, "amount")
        async with self._db.transaction() as tx:
            order = await store.lock(tx, UUID(request.order_id))
            rules.check_captured(order, amount, request.amount.currency_code)
            settlement = await settlement_store.open(tx, order["id"], UUID(request.payment_id))
            outcome = rules.outcome(order, settlement)
            if outcome != settlement["outcome"]:
                await settlement_store.write(tx, settlement, outcome=outcome)
                if outcome == rules.ACCEPTED:
                    await _accept(tx, order, settlement)
                else:
                    await _decline(tx, order, settlement)
            answer = tx.reply(settlement_pb2.MarkPaidResponse(outcome=outcome))
        self._faults.reach(Point.AFTER_PAID)
        return answer

    async def MarkPaymentFailed(
        self, request: settlement_pb2.MarkPaymentFailedRequest, context: Any
    ) -> Empty:
        async with self._db.transaction() as tx:
            order = await store.lock(tx, UUID(request.order_id))
            settlement = await settlement_store.open(tx, order["id"], UUID(request.payment_id))
            if not settlement["failed"]:
                await settlement_store.write(tx, settlement, failed=True)
                if order["status"] == rules.AWAITING_PAYMENT:
                    await store.write(tx, order, {}, _event(request.note or FAILED_NOTE))
            return tx.reply(Empty())

    async def MarkRefunded(
        self, request: settlement_pb2.MarkRefundedRequest, context: Any
    ) -> Empty:
        refunded = to_minor(request.refunded_total, "refunded_total")
        async with self._db.transaction() as tx:
            order = await store.lock(tx, UUID(request.order_id))
            rules.check_refunded(order, refunded, request.refunded_total.currency_code)
            settlement = await settlement_store.open(tx, order["id"], UUID(request.payment_id))
            if refunded > settlement["refunded"]:
                await settlement_store.write(tx, settlement, refunded=refunded)
                given = _given(order, refunded - settlement["refunded"], request.note)
                if order["payment_id"] == settlement["payment_id"]:
                    await _refund(tx, order, refunded, given)
                elif settlement["outcome"] == rules.REFUND:
                    await store.write(tx, order, {}, given)
            return tx.reply(Empty())


async def _accept(tx: Transaction, order: Row, settlement: Row) -> None:
    paid = await follow_ups.pay(tx, order, settlement["payment_id"])
    if settlement["refunded"]:  # of which we heard before the payment itself
        given = _given(order, settlement["refunded"])
        await _refund(tx, paid, settlement["refunded"], given)


async def _decline(tx: Transaction, order: Row, settlement: Row) -> None:
    """Have the history tell of a payment that goes back; the order is what it was."""
    order = await store.write(tx, order, {}, _event(LATE_NOTE))
    if settlement["refunded"]:  # likewise
        await store.write(tx, order, {}, _given(order, settlement["refunded"]))


async def _refund(tx: Transaction, order: Row, refunded: int, event: Event) -> None:
    status = rules.status_after_refund(order, refunded)
    if order["status"] == rules.PAID and status == rules.REFUNDED:
        await follow_ups.restock(tx, order)  # it will never be packed
    await store.write(tx, order, {"status": status, "refunded_total": refunded}, event)


def _given(order: Row, amount: int, note: str = "") -> Event:
    """What the history says of money that was given back."""
    told = f"{format_amount(amount, order['currency'])} given back"
    return _event(f"{told}: {note}" if note else f"{told}.")


def _event(note: str) -> Event:
    return Event(OrderEvent.SYSTEM, None, note)
