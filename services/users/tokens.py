"""Tokens: what is in an access token, and the opaque ones, of which only hashes are stored."""

from __future__ import annotations

import hashlib
import secrets
import time
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from services.kit.auth import AUDIENCE
from services.kit.db import Row

ACCESS_LIFE = timedelta(minutes=10)
REFRESH_LIFE = timedelta(days=30)
VERIFY_LIFE = timedelta(hours=48)
RESET_LIFE = timedelta(hours=1)

# A refresh token is the family that it shares with its successors, then 256 bits of its own.
FAMILY_BYTES = 16
SECRET_BYTES = 32


def access_claims(user: Row, session_id: UUID, issuer: str) -> dict[str, Any]:
    """The claims of an access token that is good from now (RFC 7519).

    `sid` and `email` are OpenID Connect's.
    """
    now = int(time.time())
    return {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": str(user["id"]),
        "role": user["role"],
        "email": user["email"],
        "sid": str(session_id),
        "iat": now,
        "exp": now + int(ACCESS_LIFE.total_seconds()),
        "jti": str(uuid4()),
    }


def new_family() -> bytes:
    """What the refresh tokens of a new session begin with."""
    return secrets.token_bytes(FAMILY_BYTES)


def refresh_token(family: bytes) -> str:
    """A new refresh token."""
    return (family + secrets.token_bytes(SECRET_BYTES)).hex()


def family_of(token: str) -> bytes | None:
    """The family of a refresh token; None for what cannot be one."""
    try:
        raw = bytes.fromhex(token)
    except ValueError:
        return None
    return raw[:FAMILY_BYTES] if len(raw) == FAMILY_BYTES + SECRET_BYTES else None


def mail_token() -> str:
    """A new token to be mailed: hex, so that a double click selects all of it."""
    return secrets.token_hex(SECRET_BYTES)


def digest(token: str) -> bytes:
    """What is stored of an opaque token. No salt or slowness is needed: it has 256 random bits."""
    return hashlib.sha256(token.encode()).digest()
