"""Idempotency keys as Stripe keeps them: the first answer is repeated for 24 hours.

https://docs.stripe.com/api/idempotent_requests: answers are kept once an endpoint began its work,
whether it succeeded or failed, a 500 too. Parameters that do not pass, and a key that another
request is using at the moment, keep nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator

from sandbox.stripe import errors
from sandbox.stripe.clock import Clock
from sandbox.stripe.forms import Form
from sandbox.stripe.store import Store

KEPT_SECONDS = 24 * 3600
LONGEST_KEY = 255


class Keys:
    """The keys of one account, and those whose request is under way."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._in_flight: set[str] = set()

    @contextlib.contextmanager
    def held(self, key: str | None) -> Iterator[None]:
        """Keep others off `key` meanwhile. Raises 409 when somebody holds it, 400 for a bad key."""
        if key is None:
            yield
            return
        if not key or len(key) > LONGEST_KEY:
            raise errors.invalid(f"Idempotency keys have 1 to {LONGEST_KEY} characters.")
        if key in self._in_flight:
            raise errors.ApiError(
                409,
                "There is currently another in-progress request using this Idempotent Key (that "
                "probably means you submitted twice, and the other request is still going "
                f"through): {key}. Please try again later.",
                kind="idempotency_error",
                code="idempotency_key_in_use",
                began=False,
            )
        self._in_flight.add(key)
        try:
            yield
        finally:
            self._in_flight.discard(key)

    def answer(self, key: str | None, path: str, form: Form) -> sqlite3.Row | None:
        """What was answered to `key` before. Raises 400 when the request was another one."""
        if key is None:
            return None
        oldest = self._clock.now() - KEPT_SECONDS
        saved = self._store.row("SELECT * FROM answers WHERE key = ? AND created > ?", key, oldest)
        if saved is None:
            return None
        if saved["path"] != path:
            raise _mismatch(
                f"for the same endpoint they were first used for ('{saved['path']}')", key
            )
        if saved["fingerprint"] != fingerprint(form):
            raise _mismatch("with the same parameters they were first used with", key)
        return saved

    def keep(
        self, key: str, path: str, form: Form, *, status: int, body: str, request_id: str
    ) -> None:
        """Save an answer; in the transaction of its effect."""
        self._store.run(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)",
            *(key, path, fingerprint(form), status, body, request_id, self._clock.now()),
        )

    def forget_old(self) -> None:
        self._store.run("DELETE FROM answers WHERE created <= ?", self._clock.now() - KEPT_SECONDS)


def fingerprint(form: Form) -> str:
    """The same for the same parameters, in whatever order they came."""
    return hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()


def _mismatch(how: str, key: str) -> errors.ApiError:
    return errors.ApiError(
        400,
        f"Keys for idempotent requests can only be used {how}. Try using a key other than '{key}' "
        "if you meant to execute a different request.",
        kind="idempotency_error",
        began=False,
    )
