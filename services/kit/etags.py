"""Etags of mutable resources: the row's version, which every update raises by one (AIP-154)."""

from __future__ import annotations

from typing import Any

from services.kit import errors


def etag(row: Any) -> str:
    """The etag of a row that has a `version` column. Opaque to clients."""
    return f"v{row['version']}"


def opaque(given: str) -> str:
    """The etag in what a client sends: a field of a request, or an HTTP header.

    A header has quotes, may be weak (RFC 9110, 8.8.3), and says behind a hyphen which answer it
    came with (`kit.conditional`).
    """
    return given.removeprefix("W/").strip('"').partition("-")[0]


def check_etag(given: str, row: Any) -> None:
    """Raise ABORTED when the client's etag is not the row's; an empty one fits any row."""
    if not given or given == "*":
        return
    current = etag(row)
    if opaque(given) != current:
        raise errors.etag_mismatch(current)
