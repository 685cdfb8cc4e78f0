"""Removes what is over: sessions, mailed tokens, counted attempts."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from services.kit.db import Database
from services.users import attempt_store, mail_store, session_store

# Longer than any limit looks back.
ATTEMPTS_AGE = timedelta(hours=1)


async def clean(database: Database) -> int:
    """Remove everything that is over, 1,000 rows at a time; the number removed."""
    forget_attempts = partial(attempt_store.forget_old, age=ATTEMPTS_AGE)
    removed = 0
    for forget in (session_store.forget_old, mail_store.forget_old, forget_attempts):
        some = 1
        while some:
            async with database.connection() as connection:
                some = await forget(connection)
            removed += some
    return removed
