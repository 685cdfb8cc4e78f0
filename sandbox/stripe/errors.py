"""Stripe's error object, its types and codes, and which HTTP status goes with them.

https://docs.stripe.com/api/errors, https://docs.stripe.com/error-codes
"""

from __future__ import annotations

from typing import Any

CODES = "https://stripe.com/docs/error-codes/"


class ApiError(Exception):
    """An answer other than 200. What was written before it was raised is rolled back.

    `began` says whether the endpoint had begun its work: only then is the answer kept under the
    idempotency key, as Stripe has it.
    """

    committed = False

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        began: bool = True,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.began = began
        self.error: dict[str, Any] = {"message": message, "type": kind}
        if code is not None:
            self.error |= {"code": code, "doc_url": CODES + code.replace("_", "-")}
        if param is not None:
            self.error["param"] = param
        self.error |= more

    def body(self, request_id: str) -> dict[str, Any]:
        log = f"https://dashboard.stripe.com/test/logs/{request_id}"
        return {"error": self.error | {"request_log_url": log}}


class CardError(ApiError):
    """The card said no: HTTP 402. The failed attempt stays on record."""

    committed = True

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(402, error["message"], kind="card_error")
        self.error = error


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Parameters that do not pass: 400, not kept under the idempotency key."""
    return ApiError(400, message, code=code, param=param, began=False)


def missing(param: str) -> ApiError:
    return invalid(f"Missing required param: {param}.", param, "parameter_missing")


def unknown(params: list[str]) -> ApiError:
    plural = "s" if len(params) > 1 else ""
    message = f"Received unknown parameter{plural}: {', '.join(params)}"
    return invalid(message, params[0], "parameter_unknown")


def no_such(kind: str, id: str, param: str, *, in_path: bool = False) -> ApiError:
    """404 when the path named it, 400 when a parameter did."""
    label = "PaymentMethod" if kind == "payment_method" else kind
    return ApiError(
        404 if in_path else 400,
        f"No such {label}: '{id}'",
        code="resource_missing",
        param=param,
    )


def unexpected_state(message: str, intent: dict[str, Any]) -> ApiError:
    """The PaymentIntent's status forbids it; the answer shows the PaymentIntent."""
    return ApiError(400, message, code="payment_intent_unexpected_state", payment_intent=intent)


def unauthorized(message: str, code: str | None = None) -> ApiError:
    return ApiError(401, message, code=code, began=False)


def unknown_url(method: str, path: str) -> ApiError:
    return ApiError(
        404,
        f"Unrecognized request URL ({method}: {path}). If you are trying to list objects, remove "
        "the trailing slash. If you are trying to retrieve an object, make sure you passed a valid "
        "(non-empty) identifier in your code. The sandbox speaks only a part of Stripe's API.",
        began=False,
    )


def rate_limited() -> ApiError:
    return ApiError(
        429,
        "Request rate limit exceeded. You can learn more about rate limits here "
        "https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        began=False,
    )


def internal(*, began: bool) -> ApiError:
    return ApiError(
        500,
        "An unexpected error occurred on our side. We have been notified of the problem.",
        kind="api_error",
        began=began,
    )
