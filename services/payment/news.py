"""What Stripe's events do here: each once, in whatever order, and by whatever way they come."""

from __future__ import annotations

from services.kit.db import Database, Transaction
from services.payment import due_store, event_store, refund_rules, store
from services.payment.webhooks import Event


async def take(database: Database, event: Event) -> bool:
    """Give an event its effect; whether it is the first time."""
    async with database.transaction(keyed=False) as tx:
        is_new = await event_store.take(tx, event.id, event.type)
        if is_new:
            await _apply(tx, event)
    return is_new


async def _apply(tx: Transaction, event: Event) -> None:
    """What an event is about is looked at again, so its order does not matter."""
    if event.dispute is not None:
        known = await event_store.add_dispute(tx, event.dispute, event.create_time)
        if refund_rules.is_later(event.dispute["status"], known["status"]):
            await event_store.write_dispute(tx, event.dispute, event.create_time)
        await store.touch(tx, event.dispute["intent_id"])
    elif event.intent_id is not None:
        await due_store.check_now(
            tx,
            event.intent_id,
            payment_id=event.payment_id,
            captured_too=event.tells_of_refunds,
        )
