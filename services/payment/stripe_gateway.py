"""Stripe through its own SDK: explicit timeouts, no retries of its own, our idempotency keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from services.kit import lean, logs, tracing
from services.kit.statements import Fields
from services.payment import stripe_answers
from services.payment.breaker import Breaker, RejectedError
from services.payment.currencies import UnchargeableError, to_stripe
from services.payment.gateway import (
    GatewayError,
    Intent,
    KeyUsedError,
    RefusedError,
    Repayment,
    UnansweredError,
    UnreachedError,
)
from services.payment.stripe_answers import Object
from shop.payment.v1.payment_pb2 import Refund

with lean.without("click", "requests", "rich"):
    import httpx
    import stripe

log = logs.logger("gateway")

Answer = TypeVar("Answer")

CONNECT_SECONDS = 2.0
PAGE = 100
_EXPAND = ["latest_charge"]
_EXPAND_EACH = ["data.latest_charge"]
# Errors after which the request is known not to have left.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# What Stripe refuses before it begins: nothing has happened.
_NOT_BEGUN = {401, 403, 429}
_REASONS = {
    Refund.REQUESTED_BY_CUSTOMER: "requested_by_customer",
    Refund.DUPLICATE: "duplicate",
    Refund.FRAUDULENT: "fraudulent",
}


class StripeGateway:
    """Stripe's API, as one shop uses it."""

    def __init__(
        self,
        secret_key: str,
        *,
        shop: str,
        base_url: str = "",
        seconds: float = 8.0,
        concurrent: int = 32,
        failures: int = 10,
    ) -> None:
        """`shop` marks what is ours at Stripe; `base_url` is empty for Stripe itself.

        No call takes longer than `seconds`.
        """
        self._shop = shop
        self._seconds = seconds
        self._http = stripe.HTTPXClient(timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS))
        self._client = stripe.StripeClient(
            secret_key,
            base_addresses={"api": base_url} if base_url else None,
            http_client=self._http,
            max_network_retries=0,
        )
        self.breaker = Breaker(self._probe, failures=failures, concurrent=concurrent)
        # They write down every request.
        for name in ("httpx", "stripe"):
            logging.getLogger(name).setLevel(logging.WARNING)

    async def keep_open(self) -> None:
        """Hold the connections to Stripe until cancelled; for a background task."""
        try:
            await asyncio.Event().wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        self.breaker.close()
        await self._http.close_async()  # type: ignore[no-untyped-call]

    def check(self) -> None:
        """Raise UnreachedError when the breaker is open or too many calls are under way."""
        try:
            self.breaker.check()
        except RejectedError:
            raise UnreachedError from None

    async def charge(self, payment: Fields) -> Intent:
        """Create and confirm a PaymentIntent."""
        params: dict[str, Any] = self._common(payment) | {
            "payment_method": payment["payment_method"],
            "confirm": True,
            "return_url": payment["return_url"],
        }
        return self._read(await self._create(payment, params))

    async def fence(self, payment: Fields) -> Intent:
        """Create a PaymentIntent that nobody can pay, under the key of a charge."""
        return self._read(await self._create(payment, self._common(payment)))

    async def retrieve(self, intent_id: str) -> Intent:
        """Read a PaymentIntent."""
        service = self._client.v1.payment_intents
        return self._read(
            await self._ask(lambda: service.retrieve_async(intent_id, {"expand": _EXPAND}))
        )

    async def cancel(self, intent_id: str) -> Intent:
        """Cancel a PaymentIntent."""
        params: Any = {"cancellation_reason": "abandoned", "expand": _EXPAND}
        service = self._client.v1.payment_intents
        return self._read(await self._ask(lambda: service.cancel_async(intent_id, params)))

    async def intents(
        self, since: datetime, until: datetime | None
    ) -> AsyncGenerator[Intent, None]:
        """List PaymentIntents, page by page."""
        created = {"gte": int(since.timestamp())}
        if until is not None:
            created["lte"] = int(until.timestamp()) + 1
        params: dict[str, Any] = {"created": created, "limit": PAGE, "expand": _EXPAND_EACH}
        async for page in self._pages(self._client.v1.payment_intents.list_async, params):
            for each in page:
                yield self._read(each)

    async def events(self, since: datetime, types: Sequence[str]) -> AsyncGenerator[Object, None]:
        """List Events, page by page."""
        created = {"gte": int(since.timestamp())}
        params: dict[str, Any] = {"created": created, "types": list(types), "limit": PAGE}
        async for page in self._pages(self._client.v1.events.list_async, params):
            for each in page:
                yield each

    async def refund(self, refund: Fields, intent_id: str, currency: str) -> Repayment:
        """Create a Refund."""
        params: dict[str, Any] = {
            "payment_intent": intent_id,
            "amount": to_stripe(refund["amount"], currency),
            "metadata": {
                "shop": self._shop,
                "refund_id": str(refund["id"]),
                "payment_id": str(refund["payment_id"]),
            },
        }
        if refund["reason"] in _REASONS:
            params["reason"] = _REASONS[refund["reason"]]
        key: Any = {"idempotency_key": str(refund["id"])}
        service = self._client.v1.refunds
        answer = await self._ask(lambda: service.create_async(params, key))  # type: ignore[arg-type]
        return stripe_answers.repayment(answer, currency, self._shop)

    async def repayments(self, intent_id: str, currency: str) -> list[Repayment]:
        """List the Refunds of a PaymentIntent."""
        params: dict[str, Any] = {"payment_intent": intent_id, "limit": PAGE}
        pages = self._pages(self._client.v1.refunds.list_async, params)
        return [
            stripe_answers.repayment(each, currency, self._shop)
            async for page in pages
            for each in page
        ]

    # --- asking ---------------------------------------------------------------------------------

    def _common(self, payment: Fields) -> dict[str, Any]:
        try:
            amount = to_stripe(payment["amount"], payment["currency"])
        except UnchargeableError:
            raise RefusedError(
                "amount_not_chargeable", "This amount cannot be charged in this currency."
            ) from None
        noted = {name: str(payment[name]) for name in ("order_id", "user_id")}
        return {
            "amount": amount,
            "currency": payment["currency"].lower(),
            "allowed_payment_method_types": ["card"],
            "metadata": {"shop": self._shop, "payment_id": str(payment["id"]), **noted},
            "description": f"Order {payment['order_id']}",
            "expand": _EXPAND,
        }

    async def _create(self, payment: Fields, params: Any) -> Object:
        key: Any = {"idempotency_key": str(payment["id"])}
        service = self._client.v1.payment_intents
        return await self._ask(lambda: service.create_async(params, key))

    def _read(self, told: Object) -> Intent:
        return stripe_answers.intent(told, self._shop)

    async def _probe(self) -> None:
        await self._client.v1.payment_intents.list_async({"limit": 1})

    async def _pages(
        self, listing: Callable[[Any], Awaitable[Any]], params: dict[str, Any]
    ) -> AsyncGenerator[list[Object], None]:
        while True:
            answer = await self._ask(partial(listing, params))
            page: list[Object] = list(answer.get("data", ()))
            yield page
            if not answer.get("has_more") or not page:
                return
            params = {**params, "starting_after": page[-1]["id"]}

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Object:
        """Make a call of the SDK, within the breaker; its answer as plain objects."""

        async def ask() -> Any:
            with tracing.current().calling("Stripe"):
                async with asyncio.timeout(self._seconds):
                    return await call()

        try:
            answer = await self.breaker.run(ask, _speaks_against_health)
        except RejectedError:
            raise UnreachedError from None
        except TimeoutError:
            raise UnansweredError from None
        except stripe.StripeError as error:
            raise self._translated(error) from error
        plain: Object = answer.to_dict()
        return plain

    def _translated(self, error: stripe.StripeError) -> GatewayError:
        status = error.http_status
        if isinstance(error, stripe.APIConnectionError):
            return UnreachedError() if isinstance(error.__cause__, _NOT_SENT) else UnansweredError()
        body = error.json_body if isinstance(error.json_body, dict) else {}
        told: Object = body.get("error") or {}
        if status in _NOT_BEGUN:
            log.error("Stripe lets us do nothing", status=status, code=told.get("code"))
            return UnreachedError()
        if told.get("type") == "idempotency_error":
            # 409: another request is at it, and its answer is not known yet.
            return UnansweredError() if status == 409 else KeyUsedError()
        if status in (400, 402, 404):
            intent = told.get("payment_intent")
            return RefusedError(
                told.get("decline_code") or told.get("code") or told.get("type") or "refused",
                told.get("message") or "",
                declined=status == 402,
                intent=self._read(intent) if isinstance(intent, dict) else None,
            )
        return UnansweredError()


def _speaks_against_health(error: Exception) -> bool:
    if isinstance(error, stripe.StripeError):
        status = error.http_status
        return status is None or status == 429 or status >= 500
    return isinstance(error, TimeoutError)
