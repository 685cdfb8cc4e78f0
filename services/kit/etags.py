"""Etags of mutable resources: the row's version, which every update raises by one (AIP-154)."""

from __future__ import annotations

from typing import Any

from services.kit import errors


def etag(row: Any) -> str:
    """The etag of a row that has a `version` column. Opaque to clients."""
    return f"v{row['version']}"


def check_etag(given: str, row: Any) -> None:
    """Raise ABORTED when the client's etag is not the row's; an empty one fits any row.

    The quotes and the weak mark of an HTTP `If-Match` value (RFC 9110, 8.8.3) are accepted.
    """
    if not given or given == "*":
        return
    current = etag(row)
    if given.removeprefix("W/").strip('"') != current:
        raise errors.etag_mismatch(current)
