"""The call that is being answered: who calls, under which request id, until when.

It is a context variable, set once by the outermost layer, so that logs, outgoing calls and
transactions know of it without every function having to pass it on.
"""

from __future__ import annotations

import asyncio
import hmac
import math
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import UUID

from google.protobuf.message import Message

from services.kit.errors import ServiceError
from shop.options.v1.access_pb2 import ACCESS_ADMIN, ACCESS_CUSTOMER, ACCESS_STAFF, Access


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a signed-in user, a service, or nobody.

    `email` is what the access token tells: the user's address when it was made, or nothing.
    """

    user_id: UUID | None = None
    role: Access.ValueType = ACCESS_CUSTOMER
    session_id: UUID | None = None
    service: str = ""
    email: str = ""

    @property
    def is_staff(self) -> bool:
        """Whether the caller is a user whose role is STAFF or ADMIN."""
        return self.user_id is not None and self.role in (ACCESS_STAFF, ACCESS_ADMIN)

    def may_see(self, owner: UUID) -> bool:
        """Whether the caller is the owner of a resource, or staff."""
        return self.user_id == owner or self.is_staff


NOBODY = Caller()


@dataclass(frozen=True, slots=True)
class Claim:
    """An idempotency key as it is stored: whose, for which method, with which request.

    While the services' secret is replaced there are several, and a fingerprint under each: the
    first one is stored, any is taken for the same request.
    """

    scopes: tuple[str, ...]
    method: str
    key: str
    fingerprints: tuple[bytes, ...]
    answer: type[Message]

    @property
    def fingerprint(self) -> bytes:
        """The one to store."""
        return self.fingerprints[0]

    def is_of(self, fingerprint: bytes | None) -> bool:
        """Whether this is the request that was stored like that."""
        return fingerprint is not None and any(
            hmac.compare_digest(fingerprint, each) for each in self.fingerprints
        )


@dataclass(slots=True)
class Call:
    """One call of one method.

    `deadline` is in the event loop's time, `claim` the idempotency key that is still to be stored,
    `location` the path of what was created, `committed` whether anything has been, `refusal` what
    the caller got instead of an answer.
    """

    method: str
    request_id: str
    deadline: float = math.inf
    caller: Caller = NOBODY
    authorization: str = ""
    claim: Claim | None = None
    location: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    committed: bool = False
    refusal: ServiceError | None = None

    def remaining(self) -> float:
        """Seconds until the caller stops waiting."""
        return self.deadline - asyncio.get_running_loop().time()


_metadata: ContextVar[dict[str, str]] = ContextVar("metadata")
_current: ContextVar[Call] = ContextVar("call")


def came(metadata: Iterable[tuple[str, str]]) -> None:
    """Note what a call has brought, before anything is around its handler."""
    _metadata.set(dict(metadata))


def metadata() -> dict[str, str]:
    """What the call has brought: its headers, without those of HTTP/2."""
    return _metadata.get()


def current() -> Call:
    """The call being answered. Raises LookupError outside of one."""
    return _current.get()


def current_or_none() -> Call | None:
    """The call being answered, or None in a background task."""
    return _current.get(None)


def begin(call: Call) -> None:
    """Make `call` the one being answered in this task and the tasks it starts."""
    _current.set(call)


def caller() -> Caller:
    """Who made the call being answered."""
    return _current.get().caller


def user_id() -> UUID:
    """The signed-in user who made the call. For methods whose access demands one."""
    user = _current.get().caller.user_id
    if user is None:
        raise RuntimeError("the method lets callers in who are not signed in")
    return user
