"""Charging: three phases, so that nothing is charged twice or forgotten, wherever a process dies.

    transaction 1   the payment is written as PROCESSING; its id is Stripe's idempotency key
    call            Stripe is asked to charge, outside any transaction, for limited time
    transaction 2   the payment is settled by Stripe's answer, with what the order is to be told

The caller waits for so long only; the rest goes on without them. What no answer came for is
UNKNOWN, and the reconciler asks Stripe what has become of it.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.kit import call, errors
from services.kit.db import Database, Row
from services.kit.ids import uuid7
from services.kit.money import to_minor
from services.payment import due_store, rules, store
from services.payment.faults import Faults, Point
from services.payment.gateway import Gateway, GatewayError, RefusedError, UnreachedError
from services.payment.inquiries import Inquiries
from services.payment.orders import Orders
from services.payment.patience import LEASE_MARGIN, Patience
from shop.order.v1.order_pb2 import Order
from shop.payment.v1.payment_pb2 import ProcessPaymentRequest


class Cashier:
    """Takes payments."""

    def __init__(
        self,
        database: Database,
        orders: Orders,
        gateway: Gateway,
        inquiries: Inquiries,
        patience: Patience,
        faults: Faults,
        *,
        return_url: str,
        gateway_seconds: float,
    ) -> None:
        """`return_url` is where customers come back to from 3-D Secure if they say nothing else."""
        self._db = database
        self._orders = orders
        self._gateway = gateway
        self._inquiries = inquiries
        self._patience = patience
        self._faults = faults
        self._return_url = return_url
        self._lease = timedelta(seconds=gateway_seconds) + LEASE_MARGIN

    async def pay(self, request: ProcessPaymentRequest) -> Row:
        """The payment that a request makes, or has made before. Raises what ProcessPayment may."""
        claim = call.current().claim
        payment = None
        if claim is not None:
            async with self._db.connection() as connection:
                payment = await store.find_by_key(connection, call.user_id(), claim.key)
        if payment is None:
            order = await self._orders.of_caller(request.order_id)
            payment, is_new = await self._begin(request, order, claim)
            if is_new:
                return await self._wait_for(payment, self._charge(payment))
        if claim is not None:
            rules.check_same_request(payment, claim)
        return await self._resume(payment)

    async def _begin(
        self, request: ProcessPaymentRequest, order: Order, claim: call.Claim | None
    ) -> tuple[Row, bool]:
        """Write a payment; or find the one that a call with the same key has just written."""
        rules.check_payable(order.status)
        try:
            self._gateway.check()
        except UnreachedError:
            raise rules.gateway_unavailable() from None
        values = {
            "id": uuid7(),
            "order_id": UUID(order.id),
            "user_id": call.user_id(),
            "amount": to_minor(order.total, "total"),
            "currency": order.total.currency_code,
            "payment_method": request.payment_method,
            "return_url": request.return_url or self._return_url,
            "idempotency_key": claim.key if claim is not None else None,
            "fingerprint": claim.fingerprint if claim is not None else None,
        }
        async with self._db.transaction(keyed=False) as tx:
            known = await store.lock_order(tx, values["order_id"])
            if known["close_time"] is not None:
                rules.check_payable(Order.CANCELLED)
            payment = await store.insert_payment(tx, values, self._lease)
            if payment is not None:
                return payment, True
            if claim is not None:
                payment = await store.find_by_key(tx, call.user_id(), claim.key)
            if payment is None:
                active = await store.find_active(tx, values["order_id"])
                raise rules.in_the_way(active) if active else errors.internal()
            return payment, False

    async def _resume(self, payment: Row) -> Row:
        """Finish what a call with the same key has begun, if nobody is at it."""
        if payment["status"] not in rules.OPEN or payment["intent_id"]:
            return payment
        async with self._db.connection() as connection:
            taken = await due_store.begin_attempt(connection, payment["id"], self._lease)
        if taken is not None:
            return await self._wait_for(taken, self._take_over(taken))
        if payment["status"] == rules.UNKNOWN:
            return payment
        raise rules.key_in_use()

    async def _take_over(self, payment: Row) -> Row:
        """Go on with a payment that was left; Stripe is asked first whether it knows it."""
        try:
            intent = await self._inquiries.find(payment)
        except GatewayError:
            return await self._leave(payment)
        if intent is not None:
            return await self._inquiries.settle(payment, intent)
        if payment["give_back"] or payment["create_time"] < datetime.now(UTC) - rules.KEY_HOURS:
            return await self._leave(payment)
        return await self._charge(payment)

    async def _charge(self, payment: Row) -> Row:
        """Ask Stripe to charge, and settle the payment by the answer."""
        # A later attempt may be answered with the intent of an earlier one.
        is_new = payment["attempts"] == 1
        self._faults.reach(Point.AFTER_PAYMENT)
        try:
            intent = await self._gateway.charge(payment)
            self._faults.reach(Point.AFTER_CHARGE)
        except RefusedError as refusal:
            self._faults.reach(Point.AFTER_CHARGE)
            if refusal.intent is not None:
                intent = replace(refusal.intent, failure_code=refusal.code)
                return await self._inquiries.settle(payment, intent, is_new=is_new)
            return await self._inquiries.fail(payment, refusal.code, refusal.message)
        except UnreachedError:
            if await self._withdraw(payment):
                raise rules.gateway_unavailable() from None
            return await self._leave(payment)
        except GatewayError:
            return await self._leave(payment)
        return await self._inquiries.settle(payment, intent, is_new=is_new)

    async def _withdraw(self, payment: Row) -> bool:
        """Undo a payment that never left; not one of which an earlier attempt may have."""
        async with self._db.connection() as connection:
            return bool(await due_store.withdraw(connection, payment["id"]))

    async def _leave(self, payment: Row) -> Row:
        """Give up waiting for Stripe: it becomes UNKNOWN, and the reconciler asks soon."""
        async with self._db.transaction(keyed=False) as tx:
            row = await store.lock(tx, payment["id"])
            if row["status"] == rules.PROCESSING and not row["intent_id"]:
                row = await store.write(tx, row, {"status": rules.UNKNOWN})
            await due_store.end_attempt(tx, payment["id"])
            return row

    async def _wait_for(self, payment: Row, work: Coroutine[Any, Any, Row]) -> Row:
        """The outcome of `work`; the payment as UNKNOWN when the caller cannot wait for it."""
        after = await self._patience.wait_for(work)
        self._faults.reach(Point.AFTER_SETTLEMENT)
        if after is not None:
            return after
        async with self._db.transaction(keyed=False) as tx:
            row = await store.lock(tx, payment["id"])
            if row["status"] == rules.PROCESSING and not row["intent_id"]:
                row = await store.write(tx, row, {"status": rules.UNKNOWN})
            return row
