"""Access tokens of all kinds, and the keys that the edge is to believe."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from shop.users.v1 import users_pb2


def _base64url(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode()


@dataclass(frozen=True)
class Key:
    """A signing key with its id."""

    kid: str
    private: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, kid: str) -> Key:
        """A new key."""
        return cls(kid, ec.generate_private_key(ec.SECP256R1()))

    @property
    def jwk(self) -> users_pb2.JsonWebKey:
        """The public half, as AuthService.GetJwks publishes it."""
        numbers = self.private.public_key().public_numbers()
        return users_pb2.JsonWebKey(
            kty="EC",
            crv="P-256",
            x=_base64url(numbers.x),
            y=_base64url(numbers.y),
            kid=self.kid,
            use="sig",
            alg="ES256",
        )

    def token(self, *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A valid token, apart from what `claims` and `headers` change; None leaves a claim out."""
        now = int(time.time())
        usual = {
            "iss": "shop",
            "aud": "shop",
            "sub": "018f0000-0000-7000-8000-000000000001",
            "role": "CUSTOMER",
            "sid": "018f0000-0000-7000-8000-000000000002",
            "iat": now,
            "exp": now + 600,
            "jti": "018f0000-0000-7000-8000-000000000003",
        }
        chosen = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        return jwt.encode(
            chosen, self.private, "ES256", headers={"kid": self.kid, **(headers or {})}
        )


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"authorization": f"Bearer {token}"}
