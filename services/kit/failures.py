"""What exceptions mean: to the caller, as a `ServiceError`; to us, as a line in the log."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import grpc

from services.kit import errors, logs
from services.kit.errors import ServiceError
from shop.errors.v1 import reason_pb2

log = logs.logger("rpc")

# Postgres had this transaction give way: run once more, it will very likely get through.
CONFLICTS = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    # A migration changed a table under a statement that had been prepared.
    asyncpg.InvalidCachedStatementError,
)
# How another service says that it, or something it needs, is away or too busy.
PASSING = {
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
}


def refusal(exception: Exception | asyncio.CancelledError) -> ServiceError:
    """The error to show for what was raised; the unexpected is logged and becomes INTERNAL."""
    if isinstance(exception, ServiceError):
        return exception
    if isinstance(exception, asyncio.CancelledError):
        return ServiceError(
            grpc.StatusCode.UNAVAILABLE,
            reason_pb2.REASON_INTERRUPTED,
            "The call was interrupted: try again.",
            retry_after=timedelta(seconds=1),
        )
    if isinstance(exception, (TimeoutError, asyncpg.QueryCanceledError)):
        return ServiceError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            reason_pb2.REASON_DEADLINE_EXCEEDED,
            "The call took too long and was given up.",
        )
    if isinstance(exception, (*CONFLICTS, asyncpg.LockNotAvailableError)):
        return ServiceError(
            grpc.StatusCode.ABORTED,
            reason_pb2.REASON_TRANSACTION_CONFLICT,
            "Other calls are changing the same thing: try again.",
            retry_after=timedelta(seconds=0.1),
        )
    if isinstance(exception, grpc.aio.AioRpcError) and exception.code() in PASSING:
        # Another service's status is never passed through unread.
        log.warning("another service does not answer", code=exception.code().name)
        return errors.unavailable("Another part of the shop does not answer: try again.")
    log.error("unexpected exception", exc_info=exception)
    return errors.internal()


def kind(exception: BaseException) -> str:
    """What failed, in a word or two, without any text that could quote a person's data."""
    if isinstance(exception, ServiceError):
        return errors.name(exception.reason)
    if isinstance(exception, grpc.aio.AioRpcError):
        return f"AioRpcError {exception.code().name}"
    return type(exception).__name__


def report(log: Any, event: str, exception: Exception, **fields: Any) -> None:
    """Log a failure that will be tried again; where it happened, unless that was to be expected."""
    expected = isinstance(exception, (ServiceError, grpc.aio.AioRpcError))
    trace = {} if expected else {"exc_info": exception}
    log.warning(event, error=kind(exception), **fields, **trace)
