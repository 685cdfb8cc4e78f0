"""Signing keys for tests."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


def write(path: Path, key: ec.EllipticCurvePrivateKey | None = None) -> ec.EllipticCurvePrivateKey:
    """Put a key, a new one unless it is given, into a PEM file."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(pem)
    return key
