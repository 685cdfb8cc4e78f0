"""Removes what is over: guests' carts that nobody came back to, idempotency keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

from services.cart import store
from services.cart.tables import metadata
from services.kit import idempotency, tasks
from services.kit.db import Database

_KEYS = idempotency.Keys(metadata)


async def clean(database: Database, kept: timedelta) -> int:
    """Remove everything that is over, 1,000 rows at a time; the number removed."""
    return await tasks.remove_all(
        database,
        partial(store.forget_abandoned, age=kept),
        partial(_KEYS.forget_old, before=datetime.now(UTC) - idempotency.REMEMBERED),
    )
