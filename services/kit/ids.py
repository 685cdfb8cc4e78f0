"""Identifiers: UUIDv7 (RFC 9562), made here, so that keys grow with time and indexes stay dense."""

from __future__ import annotations

from uuid import UUID

from uuid_utils.compat import uuid7

from services.kit import errors

__all__ = ["parse", "uuid7"]


def parse(text: str, resource: str) -> UUID:
    """The UUID that `text` spells. Raises NOT_FOUND: what is not an id cannot be anything's id."""
    try:
        return UUID(text)
    except ValueError:
        raise errors.not_found(resource, text) from None
