"""Tokens of all kinds, good and bad, and who verifies them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from services.kit import auth
from services.kit.errors import ServiceError
from services.kit.ids import uuid7
from tests import callers

USER = uuid7()
PUBLIC_PEM = callers.KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
STRANGER = ec.generate_private_key(ec.SECP256R1())


def claims(**other: Any) -> dict[str, Any]:
    role = other.pop("role", "CUSTOMER")
    token = callers.access_token(USER, role, **other)
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def signed(header: dict[str, Any], *, key: Any = callers.KEY, **other: Any) -> str:
    """A token with any header, truly signed by `key`."""
    headers = {"kid": callers.KID} | header
    return jwt.encode(claims(**other), key, algorithm="ES256", headers=headers)


def unsigned(header: dict[str, Any], signature: bytes = b"") -> str:
    """A token with any header and any signature."""
    return f"{part(header)}.{part(claims())}.{part(signature)}"


def confused() -> str:
    """HS256 with the public key for a secret, as libraries once accepted."""
    head = f"{part({'alg': 'HS256', 'kid': callers.KID})}.{part(claims())}"
    mac = hmac.digest(PUBLIC_PEM, head.encode(), hashlib.sha256)
    return f"{head}.{part(mac)}"


def embedded(name: str) -> str:
    """A token signed by a stranger that brings, or points to, the stranger's key."""
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(STRANGER.public_key(), as_dict=True)
    value: Any = {"jwk": jwk, "jku": "https://evil.example/jwks", "x5u": "file:///etc/passwd"}[name]
    return signed({name: value}, key=STRANGER)


def rsa_signed() -> str:
    key = rsa.generate_private_key(65537, 2048)
    return jwt.encode(claims(), key, algorithm="RS256", headers={"kid": callers.KID})


def tokens(keys: auth.Keys | None = None, **options: Any) -> auth.AccessTokens:
    keys = keys or auth.Keys(callers.published_keys)
    return auth.AccessTokens(keys, issuer=callers.ISSUER, **options)


async def refusal_of(token: str, verifier: auth.AccessTokens | None = None) -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        await (verifier or tokens()).verify(token)
    return raised.value
