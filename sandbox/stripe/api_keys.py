"""Who may ask: test keys only. A live key is refused before anything else is looked at."""

from __future__ import annotations

import base64
import binascii
import hmac
import re

from sandbox.stripe import errors

TEST_KEY = re.compile(r"^(sk|rk)_test_[A-Za-z0-9_]{4,250}$")


def check(authorization: str | None, expected: str | None = None) -> str:
    """The key of a Bearer or Basic header. Raises 401 unless a test key (`expected`, if given)."""
    key = _key(authorization)
    if key is None:
        raise errors.unauthorized(
            "You did not provide an API key. You need to provide your API key in the Authorization "
            "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
            "https://stripe.com/docs/api#authentication for details."
        )
    if key.startswith(("sk_live_", "rk_live_", "pk_live_")):
        raise errors.unauthorized(
            "This is a sandbox, where no money moves: it refuses live keys. Use a test key "
            "(sk_test_...), and consider this live key exposed if the sandbox is not yours.",
            "livemode_mismatch",
        )
    if key.startswith("pk_"):
        raise errors.unauthorized(
            "This API call cannot be made with a publishable API key. Please use a secret API key.",
            "secret_key_required",
        )
    allowed = TEST_KEY.match(key) is not None
    if expected is not None:
        allowed = hmac.compare_digest(key.encode(), expected.encode())
    if not allowed:
        raise errors.unauthorized(f"Invalid API Key provided: {masked(key)}")
    return key


def masked(key: str) -> str:
    """A key as Stripe shows it: its kind and its last four characters."""
    kind = re.match(r"^(sk|rk|pk)_(test|live)_", key)
    shown = kind[0] if kind else ""
    hidden = max(len(key) - len(shown) - 4, 4)
    return shown + "*" * min(hidden, 20) + (key[-4:] if len(key) > len(shown) + 4 else "")


def _key(authorization: str | None) -> str | None:
    scheme, _, value = (authorization or "").partition(" ")
    value = value.strip()
    if scheme.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode("ascii").partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return None
    elif scheme.lower() != "bearer":
        return None
    return value or None
