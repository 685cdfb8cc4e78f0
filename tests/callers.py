"""Callers for tests: who they are, and the metadata by which a service knows them.

The tokens are signed by a key made for the run, the only one that the services under test know.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from services.kit import auth
from services.kit.ids import uuid7

SECRET = "the services of the tests share this secret"
ISSUER = "shop"
KEY = ec.generate_private_key(ec.SECP256R1())
KID = "key-of-the-tests"

Metadata = tuple[tuple[str, str], ...]


async def published_keys() -> dict[str, Any]:
    """The key set that the users service would publish."""
    public: dict[str, Any] = jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
    return {"keys": [public | {"kid": KID, "use": "sig", "alg": "ES256"}]}


def new_email() -> str:
    """An address that nobody has, without digits, which may happen to be a card number."""
    return uuid7().hex.translate(str.maketrans("0123456789", "ghijklmnop")) + "@example.com"


def access_token(user_id: UUID, role: str, **claims: Any) -> str:
    """An access token as the users service makes them; `claims` replace its own, None drops one."""
    now = int(time.time())
    payload = {
        "iss": ISSUER,
        "aud": "shop",
        "sub": str(user_id),
        "role": role,
        "sid": str(uuid7()),
        "iat": now,
        "exp": now + 600,
        "jti": str(uuid7()),
    } | claims
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, KEY, algorithm="ES256", headers={"kid": KID})


@dataclass(frozen=True)
class User:
    """A signed-in user."""

    role: str = "CUSTOMER"
    id: UUID = field(default_factory=uuid7)
    email: str | None = None

    def __call__(self, *, key: str = "") -> Metadata:
        """The metadata of one call, with an idempotency key if one is given."""
        token = access_token(self.id, self.role, email=self.email)
        metadata = (("authorization", f"Bearer {token}"),)
        return (*metadata, ("idempotency-key", key)) if key else metadata


def service(name: str = "order") -> Metadata:
    """The metadata of a call that another service makes."""
    return ((auth.SERVICE_HEADER, auth.ServiceCredential(name, SECRET).token()),)


NOBODY: Metadata = ()
