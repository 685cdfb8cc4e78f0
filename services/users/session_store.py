"""Every statement on sessions: families of refresh tokens, one row each."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa

from services.kit.db import Connection, Row, Statement
from services.users.tables import sessions, users

_USER_ID = sa.bindparam("of_user", type_=sa.Uuid)
_ID = sa.bindparam("row_id", type_=sa.Uuid)
_expiry = sa.func.now() + sa.bindparam("life", type_=sa.Interval)
_live = sa.and_(
    sessions.c.expire_time > sa.func.now(), ~users.c.disabled, users.c.delete_time.is_(None)
)

_INSERT = Statement(
    sa.insert(sessions)
    .values(
        id=_ID,
        user_id=_USER_ID,
        family=sa.bindparam("new_family"),
        token_hash=sa.bindparam("new_token_hash"),
        expire_time=_expiry,
    )
    .returning(sessions)
)
_GET_LIVE = Statement(
    sa.select(
        sessions.c.id,
        sessions.c.user_id,
        sessions.c.create_time,
        sessions.c.expire_time,
        users.c.role,
    )
    .join(users, users.c.id == sessions.c.user_id)
    .where(sessions.c.id == _ID, _live)
)
_LOCK_FAMILY = Statement(
    sa.select(sessions)
    .where(sessions.c.family == sa.bindparam("of_family"), sessions.c.expire_time > sa.func.now())
    .with_for_update()
)
_ROTATE = Statement(
    sa.update(sessions)
    .where(sessions.c.id == _ID)
    .values(token_hash=sa.bindparam("new_token_hash"), expire_time=_expiry)
    .returning(sessions)
)
_END = Statement(sa.delete(sessions).where(sessions.c.id == _ID))
_END_ALL = Statement(sa.delete(sessions).where(sessions.c.user_id == _USER_ID))
_END_OTHERS = Statement(
    sa.delete(sessions).where(sessions.c.user_id == _USER_ID, sessions.c.id != _ID)
)
_old = sa.select(sessions.c.id).where(sessions.c.expire_time < sa.func.now()).limit(1000)
_FORGET_OLD = Statement(sa.delete(sessions).where(sessions.c.id.in_(_old)))


async def insert(
    tx: Connection, id: UUID, user_id: UUID, family: bytes, token_hash: bytes, life: timedelta
) -> Row:
    """A new session of a user who is held or locked."""
    return await _INSERT.one(
        tx, row_id=id, of_user=user_id, new_family=family, new_token_hash=token_hash, life=life
    )


async def live(connection: Connection, id: UUID) -> Row | None:
    """A session that is not over, with its user's role; None for any other."""
    return await _GET_LIVE.first(connection, row_id=id)


async def lock_family(tx: Connection, family: bytes) -> Row | None:
    """The session of a family of refresh tokens, which nobody else refreshes meanwhile."""
    return await _LOCK_FAMILY.first(tx, of_family=family)


async def rotate(tx: Connection, id: UUID, token_hash: bytes, life: timedelta) -> Row:
    """Make another refresh token the one that is good."""
    return await _ROTATE.one(tx, row_id=id, new_token_hash=token_hash, life=life)


async def end(tx: Connection, id: UUID) -> None:
    """End one session."""
    await _END.run(tx, row_id=id)


async def end_all(tx: Connection, user_id: UUID) -> None:
    """End the sessions of a user."""
    await _END_ALL.run(tx, of_user=user_id)


async def end_others(tx: Connection, user_id: UUID, id: UUID) -> None:
    """End the sessions of a user, but for one."""
    await _END_OTHERS.run(tx, of_user=user_id, row_id=id)


async def forget_old(connection: Connection) -> int:
    """Remove up to 1,000 sessions that are over; the number removed."""
    return await _FORGET_OLD.run(connection)
