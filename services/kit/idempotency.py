"""Idempotency keys: a repeated call gets the first one's answer, and its effect happens once.

The key is inserted in the transaction of the effect and gets the answer before the commit. So there
is no moment in which one exists without the other, and a key in flight is held by its unique index:
a second call waits for the first to commit (then replays) or to roll back (then runs), or gives up
after the lock timeout. Errors are not stored: they changed nothing, and the next try may do better.

The semantics are those of the IETF draft "The Idempotency-Key HTTP Header Field": same key and same
request, same answer; same key and another request, refused. Keys are remembered for 24 hours.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import sqlalchemy as sa
from google.protobuf.message import Message
from grpc import StatusCode
from sqlalchemy.dialects.postgresql import insert

from services.kit.call import Caller, Claim
from services.kit.errors import FieldViolation, ServiceError
from services.kit.statements import Connection, Statement
from shop.errors.v1 import reason_pb2

TABLE = "idempotency_keys"
LONGEST_KEY = 255
REMEMBERED = timedelta(hours=24)
FORGOTTEN_AT_ONCE = 1000


def table(metadata: sa.MetaData) -> sa.Table:
    """The table of keys in a service's schema."""
    return sa.Table(
        TABLE,
        metadata,
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("method", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.LargeBinary),
        sa.Column("location", sa.Text, nullable=False, server_default=""),
        sa.Column("subject", sa.Text, nullable=False, server_default=""),
        sa.Column(
            "create_time", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.Index(f"{TABLE}_create_time", "create_time"),
        sa.Index(f"{TABLE}_subject", "subject", postgresql_where=sa.text("subject <> ''")),
    )


class Replay(Exception):  # noqa: N818 - an outcome, not an error
    """The key was used before: this is what the first call answered."""

    def __init__(self, answer: Message, location: str) -> None:
        super().__init__()
        self.answer = answer
        self.location = location


def claim(
    key: str,
    method: str,
    caller: Caller,
    raw: bytes,
    secrets: Sequence[bytes],
    answer: type[Message],
) -> Claim:
    """What to store for `key`. Raises INVALID_ARGUMENT unless it is 1 to 255 printable characters.

    The fingerprint of the request is keyed by a secret, because a request may hold a password.
    Callers who are not signed in have no name to scope a key to, so theirs is scoped to the request
    itself: two strangers with the same key never meet. With several `secrets` such a key is taken
    in the scope of each, as another process may know only one of them.
    """
    if not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise ServiceError(
            StatusCode.INVALID_ARGUMENT,
            reason_pb2.REASON_IDEMPOTENCY_KEY_INVALID,
            f"idempotency-key must be 1 to {LONGEST_KEY} printable ASCII characters.",
            violations=[FieldViolation("idempotency-key", "1 to 255 printable ASCII characters")],
        )
    request = method.encode() + b"\0" + raw
    fingerprints = tuple(hmac.digest(secret, request, hashlib.sha256) for secret in secrets)
    scopes: tuple[str, ...]
    if caller.user_id is not None:
        scopes = (f"user:{caller.user_id}",)
    elif caller.service:
        scopes = (f"service:{caller.service}",)
    else:
        # Sorted: two processes that take the same ones do not wait for each other.
        scopes = tuple(sorted(f"anyone:{each.hex()}" for each in fingerprints))
    return Claim(scopes, method, key, fingerprints, answer)


class Keys:
    """The statements on a service's table of keys."""

    def __init__(self, metadata: sa.MetaData) -> None:
        keys = metadata.tables[f"{metadata.schema}.{TABLE}"]
        same = sa.and_(
            keys.c.scope == sa.bindparam("scope"),
            keys.c.method == sa.bindparam("method"),
            keys.c.key == sa.bindparam("key"),
        )
        self._claim = Statement(
            insert(keys)
            .values(
                {name: sa.bindparam(name) for name in ("scope", "method", "key", "fingerprint")}
            )
            .on_conflict_do_nothing()
            .returning(sa.true())
        )
        self._read = Statement(
            sa.select(keys.c.fingerprint, keys.c.answer, keys.c.location).where(same)
        )
        self._store = Statement(
            sa.update(keys)
            .where(same)
            .values(
                {name: sa.bindparam(f"new_{name}") for name in ("answer", "location", "subject")}
            )
        )
        self._forget_subject = Statement(
            sa.delete(keys).where(
                sa.or_(
                    keys.c.scope == sa.bindparam("scope"), keys.c.subject == sa.bindparam("subject")
                )
            )
        )
        old = (
            sa.select(keys.c.scope, keys.c.method, keys.c.key)
            .where(keys.c.create_time < sa.bindparam("before", type_=sa.TIMESTAMP(timezone=True)))
            .limit(FORGOTTEN_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        self._forget_old = Statement(
            sa.delete(keys).where(sa.tuple_(keys.c.scope, keys.c.method, keys.c.key).in_(old))
        )

    async def claim(self, tx: Connection, claimed: Claim) -> None:
        """Take the key for this transaction.

        Raises Replay when the key has an answer, FAILED_PRECONDITION when it came with another
        request, ABORTED when the first call is still at it.
        """
        for scope in claimed.scopes:
            await self._take(tx, scope, claimed)

    async def _take(self, tx: Connection, scope: str, claimed: Claim) -> None:
        where = {"scope": scope, "method": claimed.method, "key": claimed.key}
        try:
            if await self._claim.value(tx, **where, fingerprint=claimed.fingerprint):
                return
        except asyncpg.LockNotAvailableError:
            raise ServiceError(
                StatusCode.ABORTED,
                reason_pb2.REASON_IDEMPOTENCY_KEY_IN_USE,
                "A call with this idempotency-key is still running: retry shortly.",
                retry_after=timedelta(seconds=1),
            ) from None
        row = await self._read.first(tx, **where)
        if row is None:  # forgotten between the two statements
            await self._take(tx, scope, claimed)
            return
        if not claimed.is_of(row["fingerprint"]):
            raise ServiceError(
                StatusCode.FAILED_PRECONDITION,
                reason_pb2.REASON_IDEMPOTENCY_KEY_REUSED,
                "This idempotency-key was used with another request: take a new one.",
                violations=[FieldViolation("idempotency-key", "was used with another request")],
            )
        raise Replay(claimed.answer.FromString(row["answer"]), row["location"])

    async def store(
        self, tx: Connection, claimed: Claim, answer: bytes, location: str, subject: str
    ) -> None:
        """Put the answer to the claimed key, before the commit."""
        for scope in claimed.scopes:
            await self._store.run(
                tx,
                scope=scope,
                method=claimed.method,
                key=claimed.key,
                new_answer=answer,
                new_location=location,
                new_subject=subject,
            )

    async def forget_user(self, tx: Connection, user_id: Any) -> int:
        """Remove the keys of a user, and the answers that tell about them."""
        return await self._forget_subject.run(tx, scope=f"user:{user_id}", subject=str(user_id))

    async def forget_old(self, connection: Connection, before: Any) -> int:
        """Remove up to 1,000 keys that are older than `before`; how many they were.

        Keys that another process is just removing are left to it.
        """
        return await self._forget_old.run(connection, before=before)
