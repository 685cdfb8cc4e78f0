"""What a change of a payment entails, in the same transaction: who is told, what is given back.

The payment's row is locked by whoever calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import asyncpg

from services.kit import logs, outbox
from services.kit.db import Row, Transaction
from services.kit.ids import uuid7
from services.payment import due_store, refund_rules, refund_store, rules, store, tallies
from services.payment.gateway import Repayment
from services.payment.tables import metadata
from shop.payment.v1.payment_pb2 import Refund

log = logs.logger("payments")

OUTBOX = outbox.Outbox(metadata)
# Topics of the outbox; the payload is the payment's id.
MARK_PAID = "mark_paid"
MARK_PAYMENT_FAILED = "mark_payment_failed"
MARK_REFUNDED = "mark_refunded"

AT_ONCE = timedelta(0)
NOT_PLACED_NOTE = "The order could not be placed any more."


async def change(tx: Transaction, payment: Row, changes: Mapping[str, Any]) -> Row:
    """Write changes of a payment, and have the order service told of them."""
    if not changes:
        return payment
    if payment["status"] in rules.DEAD and "status" in changes:
        after = await _revive(tx, payment, changes)
    else:
        after = await store.write(tx, payment, changes)
    tallies.changed(tx, payment, after)
    if after["status"] != payment["status"]:
        log.info("payment", id=str(after["id"]), before=payment["status"], status=after["status"])
    if after["status"] == rules.REVIEW != payment["status"]:
        log.error("payment to be reviewed", id=str(after["id"]), why=after["failure_code"])
    replaced = after["give_back"] and not payment["give_back"]
    if after["status"] == rules.SUCCEEDED and not payment["captured"] and not replaced:
        await OUTBOX.add(tx, MARK_PAID, after["id"].bytes)
    elif after["status"] in rules.DEAD and payment["status"] in rules.OPEN:
        await OUTBOX.add(tx, MARK_PAYMENT_FAILED, after["id"].bytes)
    if after["refunded"] > payment["refunded"]:
        await OUTBOX.add(tx, MARK_REFUNDED, after["id"].bytes)
    if after["give_back"] and after["captured"] > payment["captured"]:
        after = await _refund_rest(tx, after)
    return after


async def _revive(tx: Transaction, payment: Row, changes: Mapping[str, Any]) -> Row:
    """Write what was captured after all; given back at once when another payment took its place."""
    try:
        async with tx.connection.transaction():
            return await store.write(tx, payment, changes)
    except asyncpg.UniqueViolationError:
        given_back = {"give_back": True, "give_back_note": NOT_PLACED_NOTE}
        return await store.write(tx, payment, {**changes, **given_back})


async def give_back(tx: Transaction, payment: Row, note: str) -> Row:
    """Have whatever a payment captured, or will have captured, given back."""
    if not payment["give_back"]:
        changes = {"give_back": True, "give_back_note": note or NOT_PLACED_NOTE}
        payment = await store.write(tx, payment, changes)
        payment = await _refund_rest(tx, payment)
        await due_store.check_within(tx, payment["id"], AT_ONCE)
    return payment


async def _refund_rest(tx: Transaction, payment: Row) -> Row:
    left = refund_rules.refundable(payment)
    if left:
        payment, _ = await open_refund(
            tx, payment, left, Refund.ORDER_CANCELLED, payment["give_back_note"]
        )
    return payment


async def refund_again(tx: Transaction, payment: Row) -> Row:
    """Try once more to give back what has to be, after Stripe has refused to."""
    return await _refund_rest(tx, payment) if payment["give_back"] else payment


async def open_refund(
    tx: Transaction,
    payment: Row,
    amount: int,
    reason: Refund.Reason.ValueType,
    note: str,
    **columns: Any,
) -> tuple[Row, Row]:
    """Add a refund that Stripe is still to be asked for; the payment after that, and the refund.

    Its amount is taken from what can be refunded at once, so that others cannot have it too.
    """
    values = {
        "id": uuid7(),
        "payment_id": payment["id"],
        "amount": amount,
        "reason": reason,
        "note": note,
        "status": Refund.PROCESSING,
    }
    refund = await refund_store.insert_refund(tx, values | columns)
    if refund is None:
        raise rules.key_in_use()
    payment = await store.write(tx, payment, refund_rules.with_refund(payment, pending=amount))
    return payment, refund


async def settle_refund(tx: Transaction, payment: Row, refund: Row, repayment: Repayment) -> Row:
    """Take note of what Stripe says of a refund; the payment after that."""
    status = refund_rules.refund_status(refund, repayment)
    code = repayment.failure_code if status == Refund.FAILED else ""
    changes = {"status": status, "stripe_id": repayment.id, "failure_code": code}
    if all(refund[name] == value for name, value in changes.items()):
        return payment
    await refund_store.write(tx, refund, changes)
    return await _move(tx, payment, refund, status)


async def fail_refund(tx: Transaction, payment: Row, refund: Row, code: str) -> Row:
    """Take note that Stripe refused a refund; the payment after that."""
    if refund["status"] != Refund.PROCESSING:
        return payment
    await refund_store.write(tx, refund, {"status": Refund.FAILED, "failure_code": code})
    return await _move(tx, payment, refund, Refund.FAILED)


async def _move(tx: Transaction, payment: Row, refund: Row, status: Refund.Status.ValueType) -> Row:
    """Move a refund's amount between the sums of its payment."""
    amount, before = refund["amount"], refund["status"]
    pending = -amount if before == Refund.PROCESSING != status else 0
    done = {Refund.SUCCEEDED: amount}
    refunded = done.get(status, 0) - done.get(before, 0)
    if status == Refund.FAILED:
        log.error("refund refused", payment=str(payment["id"]), refund=str(refund["id"]))
    if not pending and not refunded:
        return payment
    return await change(
        tx, payment, refund_rules.with_refund(payment, pending=pending, refunded=refunded)
    )


async def withdraw_refund(tx: Transaction, payment: Row, refund: Row) -> None:
    """Remove a refund that never left this service: nothing has happened."""
    await refund_store.withdraw(tx, refund["id"])
    await store.write(tx, payment, refund_rules.with_refund(payment, pending=-refund["amount"]))


async def adopt_refund(tx: Transaction, payment: Row, repayment: Repayment) -> Row:
    """Take note of a refund that somebody made on Stripe's own pages; the payment after that."""
    if not repayment.amount or repayment.amount > refund_rules.refundable(payment):
        log.error("refund at Stripe does not fit", payment=str(payment["id"]), id=repayment.id)
        return payment
    payment, refund = await open_refund(
        tx,
        payment,
        repayment.amount,
        Refund.REQUESTED_BY_CUSTOMER,
        "Made at the payment provider.",
        stripe_id=repayment.id,
    )
    return await settle_refund(tx, payment, refund, repayment)
