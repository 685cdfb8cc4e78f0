"""Pages of lists by keyset: a token holds where the last page ended.

So page 1,000 costs what page 1 costs.

A token is bound to the request it came from (AIP-158): with another filter or order it is refused.
It holds nothing secret and is checked like any input, so it is encoded, not encrypted.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

import msgspec
from google.protobuf.message import Message
from grpc import StatusCode

from services.kit.errors import FieldViolation, ServiceError
from shop.errors.v1 import reason_pb2

DEFAULT_SIZE = 50

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list).decode

Row = TypeVar("Row")
Key = Sequence[str | int | float | bool | UUID]


class ListRequest(Protocol):
    """What every List request has (bounds are in the proto: page_size 0 to 1000)."""

    page_size: int
    page_token: str


def size(request: ListRequest) -> int:
    """How many items the page may hold."""
    return request.page_size or DEFAULT_SIZE


def _fingerprint(request: Message) -> str:
    """What a token is bound to: the request without the paging fields."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("page_size")
    copy.ClearField("page_token")
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).hexdigest()[:12]


def start(request: Any, *shape: type) -> list[Any] | None:
    """The key after which the page starts, or None for the first page.

    `shape` gives the types of the key's parts: str, int, float, bool or UUID. Raises
    INVALID_ARGUMENT (INVALID_PAGE_TOKEN) for a token that we did not make or that belongs to
    another list.
    """
    if not request.page_token:
        return None
    try:
        padded = request.page_token + "=" * (-len(request.page_token) % 4)
        fingerprint, *parts = _decode(base64.urlsafe_b64decode(padded.encode("ascii")))
        if fingerprint != _fingerprint(request):
            raise _refused()
        return [_read(part, kind) for part, kind in zip(parts, shape, strict=True)]
    except (ValueError, TypeError, RecursionError, msgspec.DecodeError):
        raise _refused() from None


def _read(part: Any, kind: type) -> Any:
    """A part of a key. Raises ValueError for what Postgres could not take for such a part."""
    if kind is UUID and isinstance(part, str):
        return UUID(part)
    fits = type(part) is kind
    if isinstance(part, str):
        part.encode()  # half a surrogate pair cannot be sent
        fits &= "\0" not in part
    elif isinstance(part, float):
        fits &= math.isfinite(part)
    elif isinstance(part, int):
        fits &= -(2**63) <= part < 2**63
    if not fits:
        raise ValueError("not a key of this list")
    return part


def cut(request: Any, rows: Sequence[Row], key: Callable[[Row], Key]) -> tuple[Sequence[Row], str]:
    """The rows of this page and the next page's token ("" at the end).

    Give it one row more than `size(request)`, when there is one: that is how it knows of a next
    page.
    """
    most = size(request)
    if len(rows) <= most:
        return rows, ""
    page = rows[:most]
    parts = [_fingerprint(request), *key(page[-1])]
    raw = _encode(parts)
    return page, base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _refused() -> ServiceError:
    return ServiceError(
        StatusCode.INVALID_ARGUMENT,
        reason_pb2.REASON_INVALID_PAGE_TOKEN,
        "page_token is not one that this list gave for these filters: start again without it.",
        violations=[FieldViolation("page_token", "does not belong to this request")],
    )
