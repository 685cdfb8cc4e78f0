"""Somebody who says of orders that they were paid, failed or refunded, as payment does."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import grpc
from google.protobuf import json_format
from google.type import money_pb2

from services.kit import auth
from services.kit.ids import uuid7
from shop.order.v1 import settlement_pb2, settlement_pb2_grpc
from shop.order.v1.settlement_pb2 import MarkPaidResponse
from tests.chaos.ledger import PASSING_CODES, PATIENCE_SECONDS, PAUSE_SECONDS, Ledger
from tests.chaos.shoppers import Placed
from tests.running import refusal_of

CALL_SECONDS = 5.0
WORKERS = 3


@dataclass
class Cashier:
    """Settles a part of the orders, and remembers what was acknowledged."""

    settlement: settlement_pb2_grpc.SettlementServiceStub
    credential: auth.ServiceCredential
    ledger: Ledger
    chance: random.Random
    # By the order's id: the payment that was accepted, and what was given back.
    accepted: dict[str, str] = field(default_factory=dict)
    declined: dict[str, str] = field(default_factory=dict)
    refunded: dict[str, money_pb2.Money] = field(default_factory=dict)
    waiting: asyncio.Queue[Placed] = field(default_factory=asyncio.Queue)

    async def work(self) -> None:
        """Settle one order after the other, without end."""
        while True:
            order = await self.waiting.get()
            try:
                await asyncio.sleep(self.chance.uniform(0, 0.5))
                await self._settle(order)
            finally:
                self.waiting.task_done()

    async def _settle(self, order: Placed) -> None:
        (fate,) = self.chance.choices(("paid", "failed", "left"), (6, 1, 2))
        payment = str(UUID(int=uuid7().int))
        if fate == "failed":
            failed = settlement_pb2.MarkPaymentFailedRequest(order_id=order.id, payment_id=payment)
            await self._surely(self.settlement.MarkPaymentFailed, failed)
        if fate != "paid":
            return
        total = json_format.ParseDict(order.total, money_pb2.Money())
        request = settlement_pb2.MarkPaidRequest(
            order_id=order.id, payment_id=payment, amount=total
        )
        times = 2 if self.chance.random() < 0.2 else 1
        answers = await asyncio.gather(
            *(self._surely(self.settlement.MarkPaid, request) for _ in range(times))
        )
        outcomes = {answer.outcome for answer in answers if answer is not None}
        self.ledger.check(len(outcomes) <= 1, f"paying for order {order.id} ended as {outcomes}")
        if outcomes == {MarkPaidResponse.ACCEPTED}:
            self.accepted[order.id] = payment
        elif outcomes:
            self.declined[order.id] = payment
        if outcomes == {MarkPaidResponse.REFUND} or (outcomes and self.chance.random() < 0.15):
            refund = settlement_pb2.MarkRefundedRequest(
                order_id=order.id, payment_id=payment, refunded_total=total
            )
            done = await self._surely(self.settlement.MarkRefunded, refund)
            if done is not None and order.id in self.accepted:
                self.refunded[order.id] = total

    async def _surely(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        """Tell the order service until it has taken note. None with a problem when it does not."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            signed = ((auth.SERVICE_HEADER, self.credential.token()),)
            try:
                answer = await method(request, timeout=CALL_SECONDS, metadata=signed)
            except grpc.aio.AioRpcError as error:
                reason = refusal_of(error).reason or error.code().name
                self.ledger.note(reason)
                if error.code() not in PASSING_CODES:
                    self.ledger.problems.append(f"settling an order was answered with {reason}")
                    return None
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                self.ledger.note("")
                self.ledger.decided[type(request).__name__.removesuffix("Request")] += 1
                return answer
        self.ledger.problems.append("settling an order was not decided in time")
        return None
