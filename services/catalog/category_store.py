"""Every statement on categories. Whoever changes the shape of the tree holds its lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from services.catalog import rules
from services.catalog.tables import categories, product_categories
from services.kit import errors
from services.kit.db import Connection, Row, Statement, Transaction

_SETTABLE = ("slug", "name", "description", "parent_id")


def _id(name: str = "row_id") -> sa.BindParameter[UUID]:
    return sa.bindparam(name, type_=sa.Uuid)


_BY_ID = Statement(sa.select(categories).where(categories.c.id == _id()))
_BY_SLUG = Statement(sa.select(categories).where(categories.c.slug == sa.bindparam("slug")))
_LOCK = Statement(sa.select(categories).where(categories.c.id == _id()).with_for_update())
# Keeps categories from being deleted while a product is put into them.
_HOLD = Statement(
    sa.select(categories.c.id)
    .where(categories.c.id == sa.any_(sa.bindparam("ids", type_=ARRAY(sa.Uuid))))
    .order_by(categories.c.id)
    .with_for_update(read=True, key_share=True)
)
_LOCK_TREE = Statement(
    sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext("catalog.categories")))
)
_INSERT = Statement(
    insert(categories)
    .values(
        {
            name: sa.bindparam(f"new_{name}", type_=categories.c[name].type)
            for name in ("id", *_SETTABLE)
        }
    )
    .on_conflict_do_nothing(index_elements=["slug"])
    .returning(categories)
)
_WRITE = Statement(
    sa.update(categories)
    .where(categories.c.id == _id())
    .values(
        {name: sa.bindparam(f"new_{name}", type_=categories.c[name].type) for name in _SETTABLE}
        | {"version": categories.c.version + 1, "update_time": sa.func.now()}
    )
    .returning(categories)
)
_DELETE = Statement(sa.delete(categories).where(categories.c.id == _id()))
_IN_USE = Statement(
    sa.select(
        sa.exists().where(categories.c.parent_id == _id())
        | sa.exists().where(product_categories.c.category_id == _id())
    )
)


def _walk(up: bool) -> Statement:
    """The category `start` and those above it (nearest first), or below it with their depth."""
    tree = (
        sa.select(categories.c.id, categories.c.parent_id, sa.literal(1).label("depth"))
        .where(categories.c.id == _id("start"))
        .cte("tree", recursive=True)
    )
    step = categories.c.id == tree.c.parent_id if up else categories.c.parent_id == tree.c.id
    tree = tree.union_all(
        sa.select(categories.c.id, categories.c.parent_id, tree.c.depth + 1).where(step)
    )
    return Statement(sa.select(tree.c.id, tree.c.depth).order_by(tree.c.depth))


_UPWARDS = _walk(up=True)
_DOWNWARDS = _walk(up=False)


def _page(where: sa.ColumnElement[bool]) -> Statement:
    after = sa.tuple_(categories.c.name, categories.c.id) > sa.tuple_(
        sa.bindparam("after_name", type_=sa.Text), _id("after_id")
    )
    return Statement(
        sa.select(categories)
        .where(where, after)
        .order_by(categories.c.name, categories.c.id)
        .limit(sa.bindparam("most", type_=sa.Integer))
    )


_PAGE_OF_ALL = _page(sa.true())
_PAGE_OF_TOP = _page(categories.c.parent_id.is_(None))
_PAGE_OF_PARENT = _page(categories.c.parent_id == _id("parent"))


async def get(connection: Connection, id: str) -> Row:
    """A category by id or slug. Raises NOT_FOUND."""
    try:
        row = await _BY_ID.first(connection, row_id=UUID(id)) if len(id) == 36 else None
    except ValueError:
        row = None
    row = row or await _BY_SLUG.first(connection, slug=id)
    if row is None:
        raise errors.not_found("category", id)
    return row


async def page(connection: Connection, parent: str, after: Sequence[Any], most: int) -> list[Row]:
    """Up to `most` categories by name after the key `(name, id)`.

    `parent` is an id, `top` for those at the top, or "" for all.
    """
    key = {"after_name": after[0], "after_id": after[1], "most": most}
    if parent == "top":
        return await _PAGE_OF_TOP.all(connection, **key)
    if parent:
        return await _PAGE_OF_PARENT.all(connection, parent=UUID(parent), **key)
    return await _PAGE_OF_ALL.all(connection, **key)


async def hold(tx: Connection, ids: Sequence[UUID]) -> None:
    """Keep categories from being deleted until the end. Raises NOT_FOUND for a missing one."""
    found = {row["id"] for row in await _HOLD.all(tx, ids=list(ids))} if ids else set()
    for id in ids:
        if id not in found:
            raise errors.not_found("category", id)


async def lock_tree(tx: Connection) -> None:
    """Be the only one who changes what stands below what, until the end."""
    await _LOCK_TREE.value(tx)


async def lock(tx: Connection, id: str) -> Row:
    """A category, locked until the end. Raises NOT_FOUND."""
    row = await _LOCK.first(tx, row_id=UUID(id))
    if row is None:
        raise errors.not_found("category", id)
    return row


async def ancestors(tx: Connection, start: UUID) -> list[UUID]:
    """`start` and what it stands below, up to the top. Raises NOT_FOUND."""
    rows = await _UPWARDS.all(tx, start=start)
    if not rows:
        raise errors.not_found("category", start)
    return [row["id"] for row in rows]


async def descendants(connection: Connection, start: UUID) -> list[UUID]:
    """`start` and what stands below it; none when there is no such category."""
    return [row["id"] for row in await _DOWNWARDS.all(connection, start=start)]


async def height(tx: Connection, start: UUID) -> int:
    """Levels from `start` down to the lowest category below it; at least 1."""
    rows = await _DOWNWARDS.all(tx, start=start)
    return max((row["depth"] for row in rows), default=1)


async def insert_category(tx: Connection, slugs: Sequence[str], values: Mapping[str, Any]) -> Row:
    """Add a category under the first of the `slugs` that is free. Raises ALREADY_EXISTS."""
    arguments = {f"new_{name}": value for name, value in values.items()}
    for slug in slugs:
        row = await _INSERT.first(tx, new_slug=slug, **arguments)
        if row is not None:
            return row
    raise rules.slug_taken()


async def write(tx: Transaction, row: Row, changes: Mapping[str, Any]) -> Row:
    """Change a locked category; columns not in `changes` keep what `row` holds.

    Raises ALREADY_EXISTS for a slug that is taken.
    """
    arguments = {f"new_{name}": changes.get(name, row[name]) for name in _SETTABLE}
    tx.changed(row["id"])
    try:
        return await _WRITE.one(tx, row_id=row["id"], **arguments)
    except asyncpg.UniqueViolationError:
        raise rules.slug_taken() from None


async def is_in_use(tx: Connection, id: UUID) -> bool:
    """Whether a category has categories below it, or products in it."""
    return bool(await _IN_USE.value(tx, row_id=id))


async def delete(tx: Transaction, id: UUID) -> None:
    """Remove a category."""
    tx.changed(id)
    await _DELETE.run(tx, row_id=id)
