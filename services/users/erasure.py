"""Erasing a user: nothing personal is left in any table of the service; the id stays.

Other services are told by the outbox, in the same transaction.
"""

from __future__ import annotations

from services.kit import idempotency
from services.kit.db import Row, Transaction
from services.users import (
    address_store,
    attempt_store,
    follow_ups,
    mail_store,
    rules,
    session_store,
    store,
)
from services.users.tables import metadata

KEYS = idempotency.Keys(metadata)


async def erase(tx: Transaction, user: Row) -> None:
    """Erase a locked user, with all that belongs to them. Repeating it changes nothing."""
    id, email_key = user["id"], user["email_key"]
    await store.erase(tx, id)
    await address_store.erase(tx, id)
    await session_store.end_all(tx, id)
    await mail_store.void(tx, id)
    await mail_store.unsend(tx, id, email_key)
    await follow_ups.erase_elsewhere(tx, id)
    await KEYS.forget_user(tx, id)
    await attempt_store.forget(
        tx,
        [
            rules.FAILED_LOGINS.subject(email_key),
            rules.FAILED_PASSWORD_CHANGES.subject(str(id)),
            rules.RESET_MAILS.subject(email_key),
        ],
    )
