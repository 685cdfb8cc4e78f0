"""Identifiers: UUIDv7 (RFC 9562), made here, so that keys grow with time and indexes stay dense."""

from __future__ import annotations

from uuid import UUID

import uuid_utils
from uuid_utils.compat import uuid7

from services.kit import errors

__all__ = ["parse", "request_id", "uuid7"]

LONGEST_REQUEST_ID = 64


def request_id(given: str | None) -> str:
    """`given`, when it can stand in a log and in the metadata of other calls, or a new one."""
    if given and len(given) <= LONGEST_REQUEST_ID and given.isascii() and given.isprintable():
        return given
    return str(uuid_utils.uuid7())


def parse(text: str, resource: str) -> UUID:
    """The UUID that `text` spells. Raises NOT_FOUND: what is not an id cannot be anything's id."""
    try:
        return UUID(text)
    except ValueError:
        raise errors.not_found(resource, text) from None
