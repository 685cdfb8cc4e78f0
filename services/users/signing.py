"""The keys that sign access tokens: a folder of PEM files, read again while the service runs.

To rotate, put a new file in the folder; when the old key's last tokens have expired, remove its
file. A new key is published at once, and signs once everybody who keeps a copy of the key set must
have seen it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.kit import logs
from services.kit.auth import ALGORITHM
from services.kit.settings import SettingsError

log = logs.logger("signing")

COORDINATE_BYTES = 32


@dataclass(frozen=True)
class SigningKey:
    """A private key on P-256, with its public half as a JWK (RFC 7517)."""

    name: str
    private: ec.EllipticCurvePrivateKey
    jwk: Mapping[str, str]
    since: float
    """When it can first have been published, in seconds after 1970."""

    @property
    def kid(self) -> str:
        return self.jwk["kid"]


class SigningKeys:
    """The keys in a folder."""

    def __init__(self, folder: Path, *, delay_seconds: float = 0.0) -> None:
        """`delay_seconds` is how long a new key is only published.

        Raises SettingsError when the folder has no usable key.
        """
        self._folder = folder
        self._delay = delay_seconds
        self._keys: list[SigningKey] = []
        self._refused: set[str] = set()
        self.reload()
        if not self._keys:
            raise SettingsError(
                f"SHOP_USERS_SIGNING_KEYS: {folder} has no unencrypted EC P-256 key, *.pem"
            )

    def reload(self) -> None:
        """Read the folder again. If no key is left, the last stay: all tokens would be refused."""
        now = time.time()
        known = {key.kid: key for key in self._keys}
        found: dict[str, SigningKey] = {}
        for path in sorted(self._folder.glob("*.pem")):
            key = self._read(path, now)
            if key is not None:
                found.setdefault(key.kid, known.get(key.kid, key))
        if not found and self._keys:
            log.error("no signing key is left in the folder: the last ones stay in use")
        elif found.keys() != known.keys():
            self._keys = sorted(found.values(), key=lambda key: (key.since, key.name))
            log.info("signing keys", kids=[key.kid for key in self._keys])

    def current(self) -> SigningKey:
        """The key that signs now: the newest that is known everywhere, or the oldest if none is."""
        settled = time.time() - self._delay
        known = [key for key in self._keys if key.since <= settled]
        return known[-1] if known else self._keys[0]

    def jwks(self) -> list[Mapping[str, str]]:
        """The public keys as JWKs, the one that signs now first."""
        current = self.current()
        return [current.jwk, *(key.jwk for key in self._keys if key is not current)]

    def sign(self, claims: dict[str, Any]) -> str:
        """A JWT with these claims."""
        key = self.current()
        return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"kid": key.kid})

    def _read(self, path: Path, now: float) -> SigningKey | None:
        """The key in a file; None, and once a line in the log, for what is not one."""
        try:
            private = serialization.load_pem_private_key(path.read_bytes(), password=None)
            # At the start, the file's time tells how long others may have known the key.
            since = now if self._keys else min(path.stat().st_mtime, now)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
            private = None
        if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(
            private.curve, ec.SECP256R1
        ):
            self._refused.discard(path.name)
            return SigningKey(path.name, private, public_jwk(private.public_key()), since)
        if path.name not in self._refused:
            self._refused.add(path.name)
            log.error("not an unencrypted EC P-256 private key", file=path.name)
        return None


def public_jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """A public key on P-256 as a JWK, named by its thumbprint (RFC 7518, 6.2; RFC 7638)."""
    numbers = key.public_numbers()
    required = {
        "crv": "P-256",
        "kty": "EC",
        "x": _base64url(numbers.x.to_bytes(COORDINATE_BYTES)),
        "y": _base64url(numbers.y.to_bytes(COORDINATE_BYTES)),
    }
    canonical = json.dumps(required, separators=(",", ":"), sort_keys=True).encode()
    kid = _base64url(hashlib.sha256(canonical).digest())
    return {**required, "kid": kid, "use": "sig", "alg": ALGORITHM}


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
