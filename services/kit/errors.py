"""The errors of the API: a status code, a reason a program can read, and what to do about it.

Anything may raise a `ServiceError`; the `errors` layer of `kit.interceptors` is the only place that
turns one into a gRPC status. Reasons are the enum of `shop/errors/v1/reason.proto`; on the wire
they lose the `REASON_` prefix and stand in a `google.rpc.ErrorInfo` of the domain "shop" (AIP-193).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import NamedTuple

from google.protobuf import any_pb2, message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from shop.errors.v1 import reason_pb2
from shop.errors.v1.reason_pb2 import Reason

DOMAIN = "shop"
# Where a status travels whole, in trailers.
STATUS_DETAILS = "grpc-status-details-bin"
# The status goes into gRPC metadata, in base64, of which peers take 8 KB with all that is in it.
MOST_VIOLATIONS = 20
LONGEST_TEXT = 200
MOST_BYTES = 3072


def name(reason: Reason.ValueType) -> str:
    """A reason as it is on the wire."""
    return Reason.Name(reason).removeprefix("REASON_")


class FieldViolation(NamedTuple):
    """What is wrong with one request field; `field` is a path such as `items[0].quantity`."""

    field: str
    description: str


class PreconditionViolation(NamedTuple):
    """What a FAILED_PRECONDITION is about; `subject` is the id of, say, a variant that is short."""

    subject: str
    description: str


class ServiceError(Exception):
    """An error that the client is meant to see."""

    def __init__(
        self,
        code: StatusCode,
        reason: Reason.ValueType,
        message: str,
        *,
        metadata: dict[str, str] | None = None,
        violations: Iterable[FieldViolation] = (),
        preconditions: Iterable[PreconditionViolation] = (),
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = _cut(message, 2 * LONGEST_TEXT)
        self.metadata = {key: _cut(value) for key, value in (metadata or {}).items()}
        self.violations = [FieldViolation(*each) for each in _fitting(violations)]
        self.preconditions = [PreconditionViolation(*each) for each in _fitting(preconditions)]
        self.retry_after = retry_after
        # For REST, where HTTP has a better word than the one that all such codes have.
        self.http_code = 0

    def status(self) -> status_pb2.Status:
        """The error as `google.rpc.Status`, with its details packed."""
        reason = name(self.reason)
        details: list[message.Message] = [
            error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=self.metadata)
        ]
        if self.violations:
            bad_request = error_details_pb2.BadRequest()
            for field, description in self.violations:
                bad_request.field_violations.add(field=field, description=description)
            details.append(bad_request)
        if self.preconditions:
            failure = error_details_pb2.PreconditionFailure()
            for subject, description in self.preconditions:
                failure.violations.add(type=reason, subject=subject, description=description)
            details.append(failure)
        if self.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromTimedelta(self.retry_after)
            details.append(retry)
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        return status


def _fitting(violations: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """As many as may be sent, each cut to size."""
    left = MOST_BYTES
    for subject, description in islice(violations, MOST_VIOLATIONS):
        texts = _cut(subject), _cut(description)
        left -= len("".join(texts).encode())
        if left < 0:
            return
        yield texts


def _cut(text: str, most_bytes: int = LONGEST_TEXT) -> str:
    return text.encode(errors="replace")[:most_bytes].decode(errors="ignore")


def invalid(*violations: FieldViolation) -> ServiceError:
    """INVALID_ARGUMENT: the request is malformed, in one or several fields."""
    first = violations[0]
    message = f"{first.field}: {first.description}" if first.field else first.description
    if len(violations) > 1:
        message += f" (and {len(violations) - 1} more)"
    return ServiceError(
        StatusCode.INVALID_ARGUMENT,
        reason_pb2.REASON_VALIDATION_FAILED,
        message,
        violations=violations,
    )


def invalid_field(field: str, description: str) -> ServiceError:
    """INVALID_ARGUMENT for one field."""
    return invalid(FieldViolation(field, description))


def malformed() -> ServiceError:
    """INVALID_ARGUMENT: the request is not the message that the method takes."""
    return ServiceError(
        StatusCode.INVALID_ARGUMENT,
        reason_pb2.REASON_MALFORMED_REQUEST,
        "The request cannot be read.",
    )


def not_found(resource: str, identifier: object) -> ServiceError:
    """NOT_FOUND: the resource is absent, or somebody else's (the answer is the same on purpose)."""
    return ServiceError(
        StatusCode.NOT_FOUND,
        reason_pb2.REASON_RESOURCE_NOT_FOUND,
        f"There is no such {resource}.",
        metadata={"resource": resource, "id": str(identifier)},
    )


def already_exists(reason: Reason.ValueType, field: str, message: str) -> ServiceError:
    """ALREADY_EXISTS: a value that has to be unique is taken."""
    return ServiceError(
        StatusCode.ALREADY_EXISTS,
        reason,
        message,
        metadata={"field": field},
        violations=[FieldViolation(field, message)],
    )


def failed_precondition(reason: Reason.ValueType, message: str, **metadata: str) -> ServiceError:
    """FAILED_PRECONDITION: the request is well formed, but the state of things forbids it."""
    return ServiceError(StatusCode.FAILED_PRECONDITION, reason, message, metadata=metadata)


def unauthenticated(reason: Reason.ValueType, message: str) -> ServiceError:
    """UNAUTHENTICATED: no credential, or one that does not hold."""
    return ServiceError(StatusCode.UNAUTHENTICATED, reason, message)


def permission_denied(reason: Reason.ValueType, message: str, **metadata: str) -> ServiceError:
    """PERMISSION_DENIED: the caller is known, but their role is too low."""
    return ServiceError(StatusCode.PERMISSION_DENIED, reason, message, metadata=metadata)


def etag_mismatch(current: str) -> ServiceError:
    """ABORTED: somebody else changed the resource first. Carries the etag it has now (AIP-154)."""
    return ServiceError(
        StatusCode.ABORTED,
        reason_pb2.REASON_ETAG_MISMATCH,
        "The resource has changed since you read it: read it again, then repeat your change.",
        metadata={"etag": current},
    )


def unavailable(message: str, *, seconds: float = 1.0) -> ServiceError:
    """UNAVAILABLE: something this service needs does not answer; `seconds` later it may."""
    return ServiceError(
        StatusCode.UNAVAILABLE,
        reason_pb2.REASON_DEPENDENCY_UNAVAILABLE,
        message,
        retry_after=timedelta(seconds=seconds),
    )


def overloaded(*, seconds: float = 1.0) -> ServiceError:
    """RESOURCE_EXHAUSTED: there is more work than this process can take on now."""
    return ServiceError(
        StatusCode.RESOURCE_EXHAUSTED,
        reason_pb2.REASON_OVERLOADED,
        "The service is busy: try again shortly.",
        retry_after=timedelta(seconds=seconds),
    )


def internal() -> ServiceError:
    """INTERNAL, with a constant text: what went wrong is in the log, under the request id."""
    return ServiceError(
        StatusCode.INTERNAL, reason_pb2.REASON_INTERNAL, "Something went wrong on our side."
    )
