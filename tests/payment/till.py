"""What tests of payments do: sell, pay, refund, have Stripe tell, and see what was charged."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
from google.api.httpbody_pb2 import HttpBody

from services.kit.ids import uuid7
from services.kit.money import from_minor
from services.payment.__main__ import Settings
from shop.payment.v1 import closure_pb2, closure_pb2_grpc, payment_pb2_grpc
from shop.payment.v1.payment_pb2 import (
    ConfirmPaymentRequest,
    GetPaymentRequest,
    HandleStripeWebhookRequest,
    Payment,
    ProcessPaymentRequest,
    RefundPaymentRequest,
)
from shop.users.v1.users_pb2 import User
from tests import callers
from tests.callers import Metadata
from tests.payment.neighbours import Orders, Sold, Users
from tests.sandbox.running import Sandbox

PATIENCE_SECONDS = 150.0
IS_QUIET = """
    SELECT NOT EXISTS (SELECT FROM payment.payments WHERE check_time IS NOT NULL)
        AND NOT EXISTS (SELECT FROM payment.outbox)
"""


@dataclass(frozen=True)
class Person:
    """A signed-in user, whose session has their own id."""

    role: str = "CUSTOMER"
    id: UUID = field(default_factory=uuid7)

    def __call__(self, *, key: str = "") -> Metadata:
        token = callers.access_token(self.id, self.role, sid=str(self.id))
        metadata = (("authorization", f"Bearer {token}"),)
        return (*metadata, ("idempotency-key", key)) if key else metadata


@dataclass
class Till:
    """The payment service, and what stands around it."""

    payments: payment_pb2_grpc.PaymentServiceStub
    closures: closure_pb2_grpc.ClosureServiceStub
    orders: Orders
    users: Users
    stripe: Sandbox
    connection: asyncpg.Connection
    settings: Settings
    customer: Person = field(default_factory=Person)
    staff: Person = field(default_factory=lambda: Person("STAFF"))

    def __post_init__(self) -> None:
        self.users.roles[str(self.staff.id)] = User.STAFF

    # --- what people do ---------------------------------------------------------------------------

    def sell(self, total: int = 10_000, currency: str = "EUR") -> Sold:
        """An order of the customer's that waits for its payment; minor units."""
        return self.orders.sell(self.customer.id, total, currency)

    async def pay(
        self,
        order: Sold,
        card: str = "visa",
        *,
        key: str = "",
        by: Person | None = None,
        patience: float | None = None,
        **more: Any,
    ) -> Payment:
        """Pay with a test card; `more` are fields of the request."""
        fields = {"order_id": str(order.id), "payment_method": f"pm_card_{card}", **more}
        request = ProcessPaymentRequest(**fields)
        metadata = (by or self.customer)(key=key)
        return await self.payments.ProcessPayment(request, metadata=metadata, timeout=patience)

    async def confirm(self, payment: Payment, by: Person | None = None) -> Payment:
        request = ConfirmPaymentRequest(id=payment.id)
        return await self.payments.ConfirmPayment(request, metadata=(by or self.customer)())

    async def get(self, payment: Payment | str, by: Person | None = None) -> Payment:
        id = payment if isinstance(payment, str) else payment.id
        request = GetPaymentRequest(id=id)
        return await self.payments.GetPayment(request, metadata=(by or self.customer)())

    async def refund(
        self, payment: Payment, amount: int | None = None, *, key: str = "", **more: Any
    ) -> Payment:
        """By staff; minor units, or all that is left."""
        request = RefundPaymentRequest(id=payment.id, **more)
        if amount is not None:
            request.amount.CopyFrom(from_minor(amount, payment.amount.currency_code))
        return await self.payments.RefundPayment(request, metadata=self.staff(key=key))

    async def close(self, order: Sold, note: str = "It was cancelled.") -> None:
        """As the order service does when an order is cancelled."""
        request = closure_pb2.CloseOrderRequest(order_id=str(order.id), note=note)
        await self.closures.CloseOrder(request, metadata=callers.service("order"))

    def three_d_secure(self, payment: Payment, decision: str = "approve") -> None:
        """Decide on the page of the card's bank."""
        answer = self.stripe.http.post(payment.redirect_url, data={"decision": decision})
        assert answer.status_code in (200, 302, 303), answer.text

    # --- what Stripe tells ------------------------------------------------------------------------

    def events(self) -> list[dict[str, Any]]:
        """What Stripe has to tell, oldest first."""
        return self._listed("/v1/events")[::-1]

    async def tell(self, event: dict[str, Any], **how: Any) -> None:
        """Send an event as Stripe does."""
        await self.send(json.dumps(event).encode(), **how)

    async def send(
        self,
        body: bytes,
        *,
        secret: str = "",
        age: float = 0.0,
        signature: str | None = None,
    ) -> None:
        if signature is None:
            secret = secret or self.settings.webhook_secrets()[0]
            signature = sign(body, secret, age)
        request = HandleStripeWebhookRequest(
            body=HttpBody(content_type="application/json", data=body)
        )
        metadata = (("stripe-signature", signature),) if signature else ()
        await self.payments.HandleStripeWebhook(request, metadata=metadata)

    # --- what became of it ------------------------------------------------------------------------

    def intents(self) -> list[dict[str, Any]]:
        """All PaymentIntents at Stripe."""
        return self._listed("/v1/payment_intents")

    def captured(self) -> list[dict[str, Any]]:
        return [each for each in self.intents() if each["amount_received"]]

    def repayments(self) -> list[dict[str, Any]]:
        return self._listed("/v1/refunds")

    def given_back(self) -> int:
        """The sum of all refunds at Stripe, in its minor units."""
        return sum(int(each["amount"]) for each in self.repayments())

    def _listed(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        more, params = True, {"limit": "100"}
        while more:
            answer = self.stripe.http.get(
                path, params=params, headers={"authorization": "Bearer sk_test_tests"}
            ).json()
            found += answer["data"]
            more = answer["has_more"]
            params["starting_after"] = found[-1]["id"] if found else ""
        return found

    async def until(self, condition: Callable[[], Awaitable[object]], what: str) -> None:
        """Wait until `condition()` holds."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not await condition():
            assert time.monotonic() < until, f"never happened: {what}"
            await asyncio.sleep(0.02)

    async def until_asked(self) -> None:
        """Wait until Stripe has been asked for money. When it executes that, a fault may say."""

        async def asked() -> bool:
            return any(
                (each["method"], each["path"]) == ("POST", "/v1/payment_intents")
                for each in self.stripe.seen()
            )

        await self.until(asked, "Stripe is asked for money")

    async def until_status(
        self, payment: Payment | str, status: Payment.Status.ValueType
    ) -> Payment:
        found: list[Payment] = []

        async def reached() -> bool:
            found[:] = [await self.get(payment, self.staff)]
            return found[0].status == status

        await self.until(reached, f"the payment is {Payment.Status.Name(status)}")
        return found[0]

    async def until_order(self, order: Sold, status: Any) -> None:
        async def reached() -> bool:
            return bool(order.status == status)

        await self.until(reached, f"the order is in status {status}")

    async def until_quiet(self) -> None:
        """Wait until nothing is open: no payment to be looked at, nothing to be told."""

        async def quiet() -> bool:
            return bool(await self.connection.fetchval(IS_QUIET))

        await self.until(quiet, "nothing is open")


def sign(body: bytes, secret: str, age: float = 0.0) -> str:
    """The header of an event that was signed so many seconds ago."""
    seconds = int(time.time() - age)
    mac = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256)
    return f"t={seconds},v1={mac.hexdigest()}"
