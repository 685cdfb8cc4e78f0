"""PaymentService and ClosureService: one method an RPC."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from google.protobuf.empty_pb2 import Empty

from services.kit import call, errors, pages, times
from services.kit.db import Database, Row
from services.kit.statements import Fields
from services.payment import (
    bookkeeping,
    messages,
    news,
    rules,
    store,
    webhooks,
)
from services.payment.cashier import Cashier
from services.payment.faults import Faults, Point
from services.payment.gateway import GatewayError
from services.payment.inquiries import Inquiries
from services.payment.orders import Orders
from services.payment.patience import Patience
from services.payment.refunds import Refunds
from shop.payment.v1 import closure_pb2, closure_pb2_grpc, payment_pb2, payment_pb2_grpc


class PaymentService(payment_pb2_grpc.PaymentServiceServicer):
    """Pays orders and gives money back."""

    def __init__(
        self,
        database: Database,
        orders: Orders,
        cashier: Cashier,
        inquiries: Inquiries,
        refunds: Refunds,
        patience: Patience,
        *,
        webhook_secrets: Sequence[str],
        wake: Callable[[], None],
    ) -> None:
        """`wake` has the reconciler look at what is due."""
        self._db = database
        self._orders = orders
        self._cashier = cashier
        self._inquiries = inquiries
        self._refunds = refunds
        self._patience = patience
        self._webhook_secrets = webhook_secrets
        self._wake = wake

    async def ProcessPayment(
        self, request: payment_pb2.ProcessPaymentRequest, context: Any
    ) -> payment_pb2.Payment:
        payment = await self._cashier.pay(request)
        rules.check_not_failed(payment)
        return await self._answer(payment["id"])

    async def GetPayment(
        self, request: payment_pb2.GetPaymentRequest, context: Any
    ) -> payment_pb2.Payment:
        return messages.payment(await self._visible(request.id), call.caller())

    async def ListPayments(
        self, request: payment_pb2.ListPaymentsRequest, context: Any
    ) -> payment_pb2.ListPaymentsResponse:
        key = pages.start(request, int, UUID)
        before = (times.at_micros(key[0]), key[1]) if key else (store.LATEST, UUID(int=0))
        async with self._db.connection() as connection:
            rows = await store.page(
                connection, UUID(request.order_id), before, pages.size(request) + 1
            )
        if not rows:  # there may be no such order, or somebody else's
            await self._orders.visible(request.order_id)
        elif not call.caller().may_see(rows[0]["user_id"]):
            raise errors.not_found("order", request.order_id)
        page, token = pages.cut(request, rows, _key)
        return payment_pb2.ListPaymentsResponse(
            payments=[messages.payment(row, call.caller()) for row in page], next_page_token=token
        )

    async def ConfirmPayment(
        self, request: payment_pb2.ConfirmPaymentRequest, context: Any
    ) -> payment_pb2.Payment:
        payment = await self._visible(request.id)
        rules.check_confirmable(payment)
        if payment["status"] in rules.OPEN:
            try:
                asked = await self._patience.wait_for(self._inquiries.ask(payment))
            except GatewayError:
                raise rules.gateway_unavailable() from None
            payment = asked or payment
        rules.check_not_failed(payment)
        return await self._answer(payment["id"])

    async def RefundPayment(
        self, request: payment_pb2.RefundPaymentRequest, context: Any
    ) -> payment_pb2.Payment:
        await self._refunds.give(request)
        return await self._answer(UUID(request.id))

    async def HandleStripeWebhook(
        self, request: payment_pb2.HandleStripeWebhookRequest, context: Any
    ) -> Empty:
        signature = call.current().metadata.get(webhooks.HEADER, "")
        body = request.body.data
        webhooks.verify(signature, body, self._webhook_secrets, time.time())
        await news.take(self._db, webhooks.read(body))
        self._wake()
        return Empty()

    async def _visible(self, id: str) -> Row:
        """A payment that the caller may see. Raises NOT_FOUND."""
        async with self._db.connection() as connection:
            payment = await store.get(connection, UUID(id))
        if not call.caller().may_see(payment["user_id"]):
            raise errors.not_found("payment", id)
        return payment

    async def _answer(self, payment_id: UUID) -> payment_pb2.Payment:
        async with self._db.connection() as connection:
            return messages.payment(await store.get(connection, payment_id), call.caller())


class ClosureService(closure_pb2_grpc.ClosureServiceServicer):
    """Ends what concerns the money of orders that are over."""

    def __init__(self, database: Database, wake: Callable[[], None], faults: Faults) -> None:
        self._db = database
        self._wake = wake
        self._faults = faults

    async def CloseOrder(self, request: closure_pb2.CloseOrderRequest, context: Any) -> Empty:
        order_id = UUID(request.order_id)
        async with self._db.transaction() as tx:
            order = await store.lock_order(tx, order_id)
            if order["close_time"] is None:
                await store.close_order(tx, order_id, request.note)
                for payment in await store.lock_of_order(tx, order_id):
                    if payment["status"] not in rules.DEAD:
                        await bookkeeping.give_back(tx, payment, request.note)
            answer = tx.reply(Empty())
        self._faults.reach(Point.AFTER_CLOSURE)
        self._wake()
        return answer


def _key(row: Fields) -> tuple[int, UUID]:
    return times.micros(row["create_time"]), row["id"]
