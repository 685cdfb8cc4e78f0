"""Every statement on addresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.kit import errors
from services.kit.db import Connection, Row, Statement
from services.users.tables import addresses, users

_ID = sa.bindparam("row_id", type_=sa.Uuid)
_USER_ID = sa.bindparam("of_user", type_=sa.Uuid)
_NEW = {
    name: sa.bindparam(f"new_{name}", type_=addresses.c[name].type)
    for name in ("postal_address", "phone")
}
_address = sa.select(addresses).where(addresses.c.id == _ID, addresses.c.user_id == _USER_ID)

_GET = Statement(_address)
_LOCK = Statement(_address.with_for_update())
# A user without addresses is one row of nulls, nobody is no row.
_LIST = Statement(
    sa.select(addresses)
    .select_from(
        users.outerjoin(
            addresses,
            sa.and_(
                addresses.c.user_id == users.c.id,
                addresses.c.id < sa.bindparam("before", type_=sa.Uuid),
            ),
        )
    )
    .where(users.c.id == _USER_ID, users.c.delete_time.is_(None))
    .order_by(addresses.c.id.desc())
    .limit(sa.bindparam("most", type_=sa.BigInteger))
)
_COUNT = Statement(
    sa.select(sa.func.count()).select_from(addresses).where(addresses.c.user_id == _USER_ID)
)
_INSERT = Statement(
    sa.insert(addresses).values(id=_ID, user_id=_USER_ID, **_NEW).returning(addresses)
)
_UPDATE = Statement(
    sa.update(addresses)
    .where(addresses.c.id == _ID)
    .values(**_NEW, version=addresses.c.version + 1, update_time=sa.func.now())
    .returning(addresses)
)
_DELETE = Statement(sa.delete(addresses).where(addresses.c.id == _ID))
_ERASE = Statement(sa.delete(addresses).where(addresses.c.user_id == _USER_ID))

# Comes after every id.
LAST = UUID(int=2**128 - 1)


async def get(connection: Connection, user_id: UUID, id: UUID) -> Row:
    """An address of a user. Raises NOT_FOUND."""
    return _found(await _GET.first(connection, row_id=id, of_user=user_id), id)


async def lock(tx: Connection, user_id: UUID, id: UUID) -> Row:
    """An address that nobody else changes until the transaction ends. Raises NOT_FOUND."""
    return _found(await _LOCK.first(tx, row_id=id, of_user=user_id), id)


async def page(connection: Connection, user_id: UUID, *, before: UUID, most: int) -> list[Row]:
    """Addresses of a user, newest first. Raises NOT_FOUND when there is no such user."""
    rows = await _LIST.all(connection, of_user=user_id, before=before, most=most)
    if not rows:
        raise errors.not_found("user", user_id)
    return [row for row in rows if row["id"] is not None]


async def count(tx: Connection, user_id: UUID) -> int:
    """How many addresses a user has; lock the user to have it stay so."""
    return int(await _COUNT.value(tx, of_user=user_id))


async def insert(tx: Connection, id: UUID, user_id: UUID, columns: Mapping[str, Any]) -> Row:
    """A new address."""
    return await _INSERT.one(tx, row_id=id, of_user=user_id, **_new(columns))


async def update(tx: Connection, row: Row, changes: Mapping[str, Any]) -> Row:
    """Change some columns of a locked address."""
    return await _UPDATE.one(tx, row_id=row["id"], **_new({**row, **changes}))


async def delete(tx: Connection, id: UUID) -> None:
    """Remove an address."""
    await _DELETE.run(tx, row_id=id)


async def erase(tx: Connection, user_id: UUID) -> None:
    """Remove all addresses of a user."""
    await _ERASE.run(tx, of_user=user_id)


def _new(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {f"new_{name}": columns[name] for name in _NEW}


def _found(row: Row | None, id: UUID) -> Row:
    if row is None:
        raise errors.not_found("address", id)
    return row
