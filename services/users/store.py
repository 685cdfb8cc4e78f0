"""Every statement on users; what belongs to one (addresses, sessions, tokens) has its own stores.

Locks are taken in one order: the user, then what belongs to the user.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from services.kit import errors
from services.kit.db import Connection, Row, Statement
from services.users.tables import users
from shop.errors.v1 import reason_pb2

# Comes after every e-mail address.
LAST = "\U0010ffff"
# Held by whoever takes an administrator's rights away: the last two cannot go at the same time.
ADMINS_LOCK = 7_340_116_102

_USER = sa.select(
    users.c.id,
    users.c.email,
    users.c.email_key,
    users.c.password_hash,
    users.c.full_name,
    users.c.phone,
    users.c.role,
    users.c.email_verified,
    users.c.disabled,
    users.c.version,
    users.c.create_time,
    users.c.update_time,
)
_WRITTEN = ("email", "password_hash", "full_name", "phone", "role", "email_verified", "disabled")
# In an UPDATE, SQLAlchemy keeps the plain names to itself.
_NEW = {name: sa.bindparam(f"new_{name}", type_=users.c[name].type) for name in _WRITTEN}
_CHANGED = {"version": users.c.version + 1, "update_time": sa.func.now()}
_ID = sa.bindparam("row_id", type_=sa.Uuid)
_by_id = _USER.where(users.c.id == _ID, users.c.delete_time.is_(None))
_by_email = _USER.where(users.c.email_key == sa.bindparam("email_key"))
# Spelled out, not a parameter: that they are few is what makes the index the way to them.
_is_admin = users.c.role == sa.literal_column("'ADMIN'")
_active_admins = sa.and_(_is_admin, ~users.c.disabled, users.c.delete_time.is_(None))
_page = (
    _USER.where(
        users.c.email_key > sa.bindparam("after"),
        users.c.email_key >= sa.bindparam("low"),
        users.c.email_key < sa.bindparam("high"),
    )
    .order_by(users.c.email_key)
    .limit(sa.bindparam("most", type_=sa.BigInteger))
)

_GET = Statement(_by_id)
_HOLD = Statement(_by_id.with_for_update(read=True))
_LOCK = Statement(_by_id.with_for_update())
_FIND = Statement(_by_email)
_FIND_AND_LOCK = Statement(_by_email.with_for_update())
_LIST = Statement(_page)
_LIST_ROLE = Statement(_page.where(users.c.role == sa.bindparam("role")))
_INSERT = Statement(sa.insert(users).values(id=_ID, **_NEW).returning(*_USER.selected_columns))
_UPDATE = Statement(
    sa.update(users)
    .where(users.c.id == _ID)
    .values(**_NEW, **_CHANGED)
    .returning(*_USER.selected_columns)
)
_ERASE = Statement(
    sa.update(users)
    .where(users.c.id == _ID)
    .values(
        email=None,
        password_hash="",
        full_name="",
        phone="",
        role="CUSTOMER",
        email_verified=False,
        delete_time=sa.func.now(),
        **_CHANGED,
    )
)
# As a subquery the array is not planned for anew.
_ids = sa.select(sa.bindparam("ids", type_=ARRAY(sa.Uuid))).scalar_subquery()
_wanted = sa.func.unnest(_ids).table_valued(sa.column("id", sa.Uuid)).render_derived(name="wanted")
_CONTACTS = Statement(
    sa.select(users.c.id, users.c.email)
    .join_from(_wanted, users, users.c.id == _wanted.c.id)
    .where(users.c.delete_time.is_(None), ~users.c.disabled)
)
_CHANGED_SINCE = Statement(
    sa.select(users.c.id)
    .where(
        users.c.version > sa.literal_column("1"),
        users.c.update_time > sa.func.now() - sa.bindparam("age", type_=sa.Interval),
    )
    .order_by(users.c.update_time.desc())
    .limit(sa.bindparam("most", type_=sa.BigInteger))
)
_HOLD_ADMINS = Statement(sa.select(sa.func.pg_advisory_xact_lock(ADMINS_LOCK)))
_OTHER_ADMIN = Statement(sa.select(sa.exists().where(_active_admins, users.c.id != _ID)))


async def get(connection: Connection, id: UUID) -> Row:
    """A user. Raises NOT_FOUND, also for one who was deleted."""
    return _found(await _GET.first(connection, row_id=id), id)


async def contacts(connection: Connection, ids: Collection[UUID]) -> list[Row]:
    """`id` and `email` of these users, as far as they exist and are not disabled."""
    return await _CONTACTS.all(connection, ids=list(ids))


async def changed(connection: Connection, age: timedelta, most: int) -> list[UUID]:
    """Up to `most` users who were changed, disabled or deleted no longer ago than `age`."""
    return [row["id"] for row in await _CHANGED_SINCE.all(connection, age=age, most=most)]


async def lock(tx: Connection, id: UUID) -> Row:
    """A user whom nobody else changes, or begins a session of, until the transaction ends."""
    return _found(await _LOCK.first(tx, row_id=id), id)


async def hold(tx: Connection, id: UUID) -> Row | None:
    """A user who stays as they are until the transaction ends; None for nobody."""
    return await _HOLD.first(tx, row_id=id)


async def find(connection: Connection, email_key: str) -> Row | None:
    """The user with this e-mail address (see `rules.email_key`)."""
    return await _FIND.first(connection, email_key=email_key)


async def find_and_lock(tx: Connection, email_key: str) -> Row | None:
    """The user with this e-mail address, whom nobody else changes until the transaction ends."""
    return await _FIND_AND_LOCK.first(tx, email_key=email_key)


async def page(
    connection: Connection, *, prefix: str, role: str, after: str, most: int
) -> list[Row]:
    """Users by e-mail address; `role` "" is any, `after` "" is from the start."""
    bounds = {"after": after, "low": prefix, "high": prefix + LAST, "most": most}
    if role:
        return await _LIST_ROLE.all(connection, role=role, **bounds)
    return await _LIST.all(connection, **bounds)


async def insert(tx: Connection, id: UUID, columns: Mapping[str, Any]) -> Row:
    """A new user. Raises ALREADY_EXISTS (EMAIL_TAKEN)."""
    with _constraints():
        return await _INSERT.one(tx, row_id=id, **_new(columns))


async def update(tx: Connection, row: Row, changes: Mapping[str, Any]) -> Row:
    """Change some columns of a locked user. Raises ALREADY_EXISTS (EMAIL_TAKEN)."""
    with _constraints():
        return await _UPDATE.one(tx, row_id=row["id"], **_new({**row, **changes}))


async def erase(tx: Connection, id: UUID) -> None:
    """Overwrite what is personal in a user's own row; the id stays."""
    await _ERASE.run(tx, row_id=id)


async def has_other_admin(tx: Connection, id: UUID) -> bool:
    """Whether somebody else is an administrator and not disabled; it stays so until the end."""
    await _HOLD_ADMINS.run(tx)
    return bool(await _OTHER_ADMIN.value(tx, row_id=id))


def _new(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {f"new_{name}": columns[name] for name in _WRITTEN}


def _found(row: Row | None, id: UUID) -> Row:
    if row is None:
        raise errors.not_found("user", id)
    return row


@contextmanager
def _constraints() -> Iterator[None]:
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "users_email_key":
            raise
        raise errors.already_exists(
            reason_pb2.REASON_EMAIL_TAKEN, "email", "Another user has this e-mail address."
        ) from None
