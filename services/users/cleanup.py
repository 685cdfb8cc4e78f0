"""Removes what is over: sessions, mailed tokens, counted attempts, idempotency keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from services.kit import idempotency
from services.kit.db import Database
from services.users import attempt_store, mail_store, session_store
from services.users.tables import metadata

# Longer than any limit looks back.
ATTEMPTS_AGE = timedelta(hours=1)

_KEYS = idempotency.Keys(metadata)


async def clean(database: Database) -> int:
    """Remove everything that is over, 1,000 rows at a time; the number removed."""
    before = datetime.now(UTC) - idempotency.REMEMBERED
    forgetting: list[Callable[[Any], Awaitable[int]]] = [
        session_store.forget_old,
        mail_store.forget_old,
        lambda connection: attempt_store.forget_old(connection, ATTEMPTS_AGE),
        lambda connection: _KEYS.forget_old(connection, before),
    ]
    removed = 0
    for forget in forgetting:
        some = 1
        while some:
            async with database.connection() as connection:
                some = await forget(connection)
            removed += some
    return removed
