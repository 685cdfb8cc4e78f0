"""The port to the payment gateway: what is asked of Stripe, and what it may answer.

`stripe_gateway` is the one adapter. Amounts are minor units of ISO 4217 on this side of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from services.kit.statements import Fields

# Statuses of a PaymentIntent that nothing follows.
SUCCEEDED = "succeeded"
CANCELED = "canceled"
# Statuses that still lead to money being taken.
PROCESSING = "processing"
REQUIRES_ACTION = "requires_action"
ENDED = frozenset({SUCCEEDED, CANCELED})


@dataclass(frozen=True, slots=True)
class Intent:
    """A PaymentIntent.

    `amount` and `captured` are None when they are not whole minor units of `currency`. `shop`,
    `payment_id`, `order_id` and `user_id` are what we noted at it: empty on what is not ours.
    """

    id: str
    status: str
    amount: int | None
    captured: int | None
    currency: str
    create_time: datetime
    shop: str = ""
    payment_id: UUID | None = None
    order_id: UUID | None = None
    user_id: UUID | None = None
    client_secret: str = ""
    redirect_url: str = ""
    failure_code: str = ""
    failure_message: str = ""
    card_brand: str = ""
    card_last4: str = ""


@dataclass(frozen=True, slots=True)
class Repayment:
    """A Refund of Stripe's. `refund_id` is what we noted at it: None on what is not ours."""

    id: str
    status: str
    amount: int | None
    refund_id: UUID | None = None
    failure_code: str = ""


class GatewayError(Exception):
    """The gateway did not do what it was asked for."""


class UnreachedError(GatewayError):
    """It was not asked, or too busy to begin: nothing has happened."""


class UnansweredError(GatewayError):
    """No answer came, or none that tells: it may have happened."""


class KeyUsedError(GatewayError):
    """The idempotency key was used with other parameters: an earlier request did arrive."""


class RefusedError(GatewayError):
    """It said no, and why. `intent` is what became of it, when there is one."""

    def __init__(
        self, code: str, message: str = "", *, declined: bool = False, intent: Intent | None = None
    ) -> None:
        """`declined`: by the card's bank; otherwise the request itself was no good."""
        super().__init__(code)
        self.code = code
        self.message = message
        self.declined = declined
        self.intent = intent


class Gateway(Protocol):
    """What is asked of Stripe. Every method may raise a GatewayError, and takes limited time."""

    def check(self) -> None:
        """Raise UnreachedError when asking would be useless now."""

    async def charge(self, payment: Fields) -> Intent:
        """Charge a payment, under its id as idempotency key. Raises RefusedError."""

    async def fence(self, payment: Fields) -> Intent:
        """Use up a payment's idempotency key by an intent that charges nothing.

        Raises KeyUsedError when a request to charge has used it before; after this none can.
        """

    async def retrieve(self, intent_id: str) -> Intent:
        """A PaymentIntent as it is now."""

    async def cancel(self, intent_id: str) -> Intent:
        """Cancel a PaymentIntent. Raises RefusedError when its status forbids that."""

    def intents(self, since: datetime, until: datetime | None) -> AsyncGenerator[Intent, None]:
        """The PaymentIntents made in a span of time, newest first."""

    def events(
        self, since: datetime, types: Sequence[str]
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """The events of some types since then, newest first, as `webhooks.event` reads them."""

    async def refund(self, refund: Fields, intent_id: str, currency: str) -> Repayment:
        """Give money back, under the refund's id as idempotency key. Raises RefusedError."""

    async def repayments(self, intent_id: str, currency: str) -> list[Repayment]:
        """All refunds of a PaymentIntent."""
