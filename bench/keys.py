"""A key of its own for each sending of the same request."""

from __future__ import annotations

# Stands in a request where its idempotency key goes, and is as long.
KEY = b"{a key of its own}"


def with_key(request: bytes, name: str, number: int) -> bytes:
    """The request with the key that `name` and `number` make, if it has room for one."""
    return request.replace(KEY, f"{name}-{number}".encode().rjust(len(KEY), b"k"), 1)
