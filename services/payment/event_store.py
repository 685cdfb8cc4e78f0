"""The statements on Stripe's events, on disputes, and on how far the reconciler has walked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from services.kit.db import Connection, Row, Statement
from services.payment.tables import Moment, disputes, events, walks

FORGOTTEN_AT_ONCE = 1000

_NOW = sa.func.clock_timestamp()
_NAME = sa.bindparam("of_name", type_=sa.Text)

_TAKE = Statement(
    insert(events)
    .values(id=sa.bindparam("event_id"), type=sa.bindparam("event_type"))
    .on_conflict_do_nothing()
    .returning(sa.true())
)
_KNOWN = Statement(
    sa.select(events.c.id).where(events.c.id == sa.any_(sa.bindparam("ids", type_=ARRAY(sa.Text))))
)
_old = (
    sa.select(events.c.id)
    .where(events.c.create_time < _NOW - sa.bindparam("age", type_=sa.Interval))
    .limit(FORGOTTEN_AT_ONCE)
    .with_for_update(skip_locked=True)
)
_FORGET_OLD = Statement(sa.delete(events).where(events.c.id.in_(_old)))

_DISPUTE = ("id", "intent_id", "amount", "currency", "reason", "status")
_LOCK_DISPUTE = Statement(
    sa.select(disputes).where(disputes.c.id == sa.bindparam("of_id")).with_for_update()
)
_ADD_DISPUTE = Statement(
    insert(disputes)
    .values(
        {name: sa.bindparam(f"new_{name}", type_=disputes.c[name].type) for name in _DISPUTE}
        | {
            "create_time": sa.bindparam("began", type_=Moment),
            "update_time": sa.bindparam("changed", type_=Moment),
        }
    )
    .on_conflict_do_nothing()
)
_WRITE_DISPUTE = Statement(
    sa.update(disputes)
    .where(disputes.c.id == sa.bindparam("of_id"))
    .values(
        amount=sa.bindparam("new_amount", type_=sa.BigInteger),
        reason=sa.bindparam("new_reason"),
        status=sa.bindparam("new_status"),
        update_time=sa.bindparam("changed", type_=Moment),
    )
)

_OPEN_WALK = Statement(insert(walks).values(name=_NAME).on_conflict_do_nothing())
_LEASE_WALK = Statement(
    sa.update(walks)
    .where(
        walks.c.name == _NAME,
        sa.or_(walks.c.next_time <= _NOW, sa.bindparam("at_once", type_=sa.Boolean)),
    )
    .values(next_time=_NOW + sa.bindparam("lease", type_=sa.Interval))
    .returning(walks)
)
_END_WALK = Statement(
    sa.update(walks)
    .where(walks.c.name == _NAME)
    .values(
        done_until=sa.bindparam("until", type_=Moment),
        next_time=_NOW + sa.bindparam("pause", type_=sa.Interval),
    )
)


async def take(tx: Connection, event_id: str, event_type: str) -> bool:
    """Whether this event is new; one that another call is just taking is waited for."""
    return bool(await _TAKE.value(tx, event_id=event_id, event_type=event_type))


async def known(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of these events that have had their effect."""
    return {row["id"] for row in await _KNOWN.all(connection, ids=list(ids))}


async def forget_old(connection: Connection, age: timedelta) -> int:
    """Remove up to 1,000 events that came so long ago; how many they were."""
    return await _FORGET_OLD.run(connection, age=age)


async def add_dispute(tx: Connection, values: Mapping[str, Any], changed: datetime) -> Row:
    """A dispute, locked until the end; added as `values` have it when it is new."""
    await _ADD_DISPUTE.run(
        tx,
        began=values["create_time"],
        changed=changed,
        **{f"new_{name}": values[name] for name in _DISPUTE},
    )
    return await _LOCK_DISPUTE.one(tx, of_id=values["id"])


async def write_dispute(tx: Connection, values: Mapping[str, Any], changed: datetime) -> None:
    """Keep what is new of a dispute."""
    await _WRITE_DISPUTE.run(
        tx,
        of_id=values["id"],
        new_amount=values["amount"],
        new_reason=values["reason"],
        new_status=values["status"],
        changed=changed,
    )


async def lease_walk(
    connection: Connection, name: str, lease: timedelta, *, at_once: bool = False
) -> Row | None:
    """How far a walk has come, when it is time for the next and nobody else has begun it.

    `at_once`: in any case; two that walk at the same time do no harm.
    """
    await _OPEN_WALK.run(connection, of_name=name)
    return await _LEASE_WALK.first(connection, of_name=name, lease=lease, at_once=at_once)


async def end_walk(
    connection: Connection, name: str, until: datetime | None, pause: timedelta
) -> None:
    """Take note of how far a walk came, and when the next one may begin."""
    await _END_WALK.run(connection, of_name=name, until=until, pause=pause)
