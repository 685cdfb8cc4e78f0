"""What may happen to users: pure decisions."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from grpc import StatusCode

from services.kit import errors
from services.kit.call import Caller
from services.kit.errors import ServiceError
from shop.errors.v1 import reason_pb2
from shop.options.v1 import access_pb2

MOST_ADDRESSES = 100
# No limit looks further back than this many attempts.
MOST_ATTEMPTS = 10


class Fields(Protocol):
    """A row, or a dictionary."""

    def __getitem__(self, name: str, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Limit:
    """How often something may be tried: `most` times in any period of the length `within`."""

    action: str
    most: int
    within: timedelta

    def subject(self, of: str) -> bytes:
        """What somebody's attempts are counted under: hashed, as any address may be tried."""
        return hashlib.sha256(f"{self.action}:{of}".encode()).digest()


FAILED_LOGINS = Limit("login", 10, timedelta(minutes=15))
# Apart from failed logins, so that strangers who guess cannot keep the owner from a new password.
FAILED_PASSWORD_CHANGES = Limit("password", 10, timedelta(minutes=15))
RESET_MAILS = Limit("reset", 3, timedelta(minutes=15))


def throttled(seconds: float) -> ServiceError:
    """RESOURCE_EXHAUSTED: too many failures; trying again after `seconds` is allowed."""
    return ServiceError(
        StatusCode.RESOURCE_EXHAUSTED,
        reason_pb2.REASON_LOGIN_THROTTLED,
        "Too many failed attempts: wait a while, or reset the password.",
        retry_after=timedelta(seconds=max(1, math.ceil(seconds))),
    )


def email_key(email: str) -> str:
    """What makes addresses one and the same: their letters, whatever case and composition."""
    return unicodedata.normalize("NFC", email).casefold()


def check_not_cleared(changes: Mapping[str, Any], *names: str) -> None:
    """Raise INVALID_ARGUMENT when a field that must not be empty is to be cleared."""
    empty = [name for name in names if name in changes and not changes[name]]
    if empty:
        raise errors.invalid(*(errors.FieldViolation(name, "must not be empty") for name in empty))


def check_may_change(caller: Caller, user: Fields) -> None:
    """Raise PERMISSION_DENIED when staff would change or delete other staff, or an administrator.

    Whoever sets somebody's e-mail address can have their password reset: without this rule, staff
    could make themselves administrators.
    """
    if user["id"] == caller.user_id or caller.role == access_pb2.ACCESS_ADMIN:
        return
    if user["role"] != "CUSTOMER":
        raise errors.permission_denied(
            reason_pb2.REASON_ROLE_REQUIRED, "Only an administrator may do this.", role="ADMIN"
        )


def is_active_admin(user: Fields) -> bool:
    """Whether a user has an administrator's rights, and can use them."""
    return user["role"] == "ADMIN" and not user["disabled"]


def last_admin() -> ServiceError:
    """FAILED_PRECONDITION: nobody would be left who may make administrators."""
    return errors.failed_precondition(
        reason_pb2.REASON_LAST_ADMIN,
        "The shop needs an administrator: make somebody else ADMIN first.",
    )


def check_room_for_address(count: int) -> None:
    """Raise FAILED_PRECONDITION when a user has all the addresses that one may have."""
    if count >= MOST_ADDRESSES:
        raise errors.failed_precondition(
            reason_pb2.REASON_LIMIT_REACHED,
            f"A user has at most {MOST_ADDRESSES} addresses: remove some first.",
            resource="address",
            limit=str(MOST_ADDRESSES),
        )


def invalid_credentials() -> ServiceError:
    """UNAUTHENTICATED, in the same words for an unknown address and a wrong password."""
    return errors.unauthenticated(
        reason_pb2.REASON_INVALID_CREDENTIALS, "The e-mail address or the password is wrong."
    )


def check_not_disabled(user: Fields) -> None:
    """Raise PERMISSION_DENIED when the user has been shut out."""
    if user["disabled"]:
        raise errors.permission_denied(
            reason_pb2.REASON_USER_DISABLED, "This account has been disabled: contact the shop."
        )


def session_ended() -> ServiceError:
    """UNAUTHENTICATED: signed out, or the password changed, or the user was disabled or deleted."""
    return errors.unauthenticated(
        reason_pb2.REASON_SESSION_ENDED, "The session has ended: sign in again."
    )


def refresh_token_invalid() -> ServiceError:
    """UNAUTHENTICATED: never issued, expired, or of a session that has ended."""
    return errors.unauthenticated(
        reason_pb2.REASON_REFRESH_TOKEN_INVALID, "The refresh token is not valid: sign in again."
    )


def refresh_token_reused() -> ServiceError:
    """UNAUTHENTICATED: the token was used before; somebody may have stolen it."""
    return errors.unauthenticated(
        reason_pb2.REASON_REFRESH_TOKEN_REUSED,
        "The refresh token was used before, so its session has been ended: sign in again.",
    )


def mail_token_invalid() -> ServiceError:
    """INVALID_ARGUMENT: never mailed, used or expired."""
    return _refused_field(
        reason_pb2.REASON_MAIL_TOKEN_INVALID,
        "token",
        "is unknown, used or expired: request a new mail",
    )


def password_incorrect() -> ServiceError:
    """INVALID_ARGUMENT: not the password that the user has now."""
    return _refused_field(
        reason_pb2.REASON_PASSWORD_INCORRECT, "current_password", "is not your password"
    )


def password_too_common(field: str) -> ServiceError:
    """INVALID_ARGUMENT: one of the passwords that are tried first."""
    return _refused_field(
        reason_pb2.REASON_PASSWORD_TOO_COMMON,
        field,
        "is one of the commonest passwords: choose another one",
    )


def _refused_field(
    reason: reason_pb2.Reason.ValueType, field: str, description: str
) -> ServiceError:
    return ServiceError(
        StatusCode.INVALID_ARGUMENT,
        reason,
        f"{field}: {description}",
        violations=[errors.FieldViolation(field, description)],
    )
