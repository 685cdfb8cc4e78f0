"""What the catalogue does by itself: it ends reservations whose time is over."""

from __future__ import annotations

from services.catalog import reservation_store
from services.kit import logs
from services.kit.db import Database

log = logs.logger("sweeper")

# An expired reservation is to be free within 5 s.
SECONDS_BETWEEN = 1.0


async def free_expired(database: Database) -> int:
    """Free the stock of all reservations whose time is over; how many they were.

    Done in small transactions, and by any number of processes at once.
    """
    freed = 0
    batch = reservation_store.BATCH
    while batch == reservation_store.BATCH:
        async with database.transaction() as tx:
            batch = await reservation_store.expire(tx)
        freed += batch
    if freed:
        log.info("reservations expired", reservations=freed)
    return freed
