"""The statements that empty what orders hold of a person who was erased.

Who was erased is remembered, for orders that were just being made meanwhile: `store.find_and_lock`
tells of an order whether its user is, and it is emptied when it is placed.
"""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert

from services.kit import idempotency
from services.kit.db import Connection, Statement
from services.order.tables import erased_users, metadata, order_events, orders

KEYS = idempotency.Keys(metadata)

_USER = sa.bindparam("of_user", type_=sa.Uuid)
_REMEMBER = Statement(insert(erased_users).values(user_id=_USER).on_conflict_do_nothing())
# The country stays: taxes are owed to it.
_COUNTRY = sa.func.jsonb_build_object(
    sa.literal_column("'region_code'"), orders.c.shipping_address["region_code"], type_=JSONB
)
_EMPTY_ORDERS = Statement(
    sa.update(orders)
    .where(
        orders.c.user_id == _USER,
        sa.or_(orders.c.email != "", orders.c.note != "", orders.c.idempotency_key.is_not(None)),
    )
    .values(
        email="",
        shipping_address=_COUNTRY,
        shipping_phone="",
        note="",
        tracking=None,
        idempotency_key=None,
        fingerprint=None,
        version=orders.c.version + 1,
        update_time=sa.func.clock_timestamp(),
    )
)
_EMPTY_EVENTS = Statement(
    sa.update(order_events)
    .where(
        order_events.c.order_id == orders.c.id, orders.c.user_id == _USER, order_events.c.note != ""
    )
    .values(note="")
)


async def remember(tx: Connection, user_id: UUID) -> None:
    """Note that a user was erased."""
    await _REMEMBER.run(tx, of_user=user_id)


async def erase(tx: Connection, user_id: UUID) -> None:
    """Empty what is personal in all orders of a user, and forget what was answered of them."""
    await _EMPTY_ORDERS.run(tx, of_user=user_id)
    await _EMPTY_EVENTS.run(tx, of_user=user_id)
    await KEYS.forget_user(tx, user_id)
