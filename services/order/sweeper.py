"""What the order service does by itself: it finishes what a crash left, and ends what is unpaid.

Any number of processes may do so at once, beside the calls: an order is locked and looked at again
before anything is done to it.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from grpc.aio import AioRpcError

from services.kit import failures, logs
from services.kit.db import Database
from services.kit.errors import ServiceError
from services.order import due_store, follow_ups, rules, store
from services.order.checkout import FINAL, Checkout
from services.order.store import Event
from shop.order.v1.order_pb2 import OrderEvent

log = logs.logger("sweeper")

SECONDS_BETWEEN = 1.0
# Longer than any call lasts: what is PENDING then was left.
LEFT_AFTER = timedelta(seconds=12)
BATCH = 50
EXPIRED_NOTE = "It was not paid in time."


class Sweeper:
    """Ends orders that nobody else will."""

    def __init__(self, database: Database, checkout: Checkout, *, left_after: timedelta) -> None:
        self._db = database
        self._checkout = checkout
        self._left_after = left_after

    async def cancel_expired(self) -> int:
        """Cancel the orders whose time to be paid is over; how many they were."""
        async with self._db.connection() as connection:
            due = await due_store.expired(connection, BATCH)
        cancelled = [order_id for order_id in due if await self._cancel(order_id)]
        if cancelled:
            log.info("orders expired", orders=len(cancelled))
        return len(cancelled)

    async def _cancel(self, order_id: UUID) -> bool:
        async with self._db.transaction() as tx:
            order = await store.find_and_lock(tx, order_id)
            if order is None or order["status"] != rules.AWAITING_PAYMENT:
                return False
            await follow_ups.cancel(tx, order, Event(OrderEvent.SYSTEM, None, EXPIRED_NOTE))
            return True

    async def finish_left(self) -> int:
        """Bring orders to their end whose calls were cut off; how many they were."""
        async with self._db.connection() as connection:
            left = await due_store.abandoned(connection, self._left_after, BATCH)
        for order_id in left:
            await self._finish(order_id)
        return len(left)

    async def _finish(self, order_id: UUID) -> None:
        async with self._db.connection() as connection:
            order = await store.find(connection, order_id)
        if order is None:
            return
        try:
            finished = await self._checkout.finish(order)
        except ServiceError as refusal:
            if refusal.code not in FINAL:
                raise  # something is away: the others would not fare better
            log.info("order not made", order=str(order_id), reason=failures.kind(refusal))
        except AioRpcError as error:
            if error.code() in failures.PASSING:
                raise
            failures.report(log, "order not finished", error, order=str(order_id))
        else:
            log.info("order finished", order=str(order_id), status=finished["status"])
