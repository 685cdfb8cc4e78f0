"""A key of its own for each sending of the same request."""

from __future__ import annotations

# Stands in a request where its idempotency key goes, and is as long.
KEY = b"{a key of its own}"


def key(name: str, number: int) -> bytes:
    """The one that `name` and `number` make."""
    return f"{name}-{number}".encode().rjust(len(KEY), b"k")
