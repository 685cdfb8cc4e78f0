"""Every statement on products and variants.

Those on categories are in `category_store`, on stock in `stock_store`, lists in `search`.

Locks are taken in one order: the category tree, categories, the product, its variants, stock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by, insert

from services.catalog import rules
from services.catalog.tables import products, stock, variants
from services.kit import errors
from services.kit.db import Connection, Row, Statement, Transaction
from services.kit.statements import Fields


def _new(table: sa.Table, *names: str) -> dict[str, Any]:
    """Parameters `new_…` for columns: in an UPDATE, SQLAlchemy keeps the plain names to itself."""
    return {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in names}


def _changed(table: sa.Table) -> dict[str, Any]:
    """What every change of a mutable resource sets."""
    return {"version": table.c.version + 1, "update_time": sa.func.now()}


def _micros(moment: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.cast(sa.extract("epoch", moment) * sa.literal_column("1000000"), sa.BigInteger)


def _id(name: str = "row_id") -> sa.BindParameter[UUID]:
    return sa.bindparam(name, type_=sa.Uuid)


def _written_by(*tables: sa.Table) -> sa.ColumnElement[str]:
    """The transactions that have written these rows as they are, whoever that was."""
    first, *others = (
        sa.cast(sa.literal_column(f"{table.name}.xmin"), sa.Text)  # of every table, in Postgres
        for table in tables
    )
    return sa.func.concat_ws(sa.literal_column("' '"), first, *others, type_=sa.Text)


# A variant with its stock as JSON: a product and all its variants are one row of one statement.
_VARIANT_PARTS: dict[str, sa.ColumnElement[Any]] = {
    **{
        name: variants.c[name]
        for name in ("id", "sku", "options", "price", "currency", "compare_at_price")
    },
    "weight_grams": variants.c.weight_grams,
    "version": variants.c.version,
    "create_micros": _micros(variants.c.create_time),
    "update_micros": _micros(variants.c.update_time),
    "on_hand": stock.c.on_hand,
    "reserved": stock.c.reserved,
    "allow_backorder": stock.c.allow_backorder,
    "written_by": _written_by(variants, stock),
}
_VARIANT_JSON = sa.func.json_build_object(
    *(
        part
        for name, column in _VARIANT_PARTS.items()
        for part in (sa.literal_column(f"'{name}'"), column)
    ),
    type_=sa.JSON,
)
_with_stock = variants.join(stock, stock.c.variant_id == variants.c.id)
_variants_of_product = (
    sa.select(sa.func.json_agg(_VARIANT_JSON))
    .select_from(_with_stock)
    .where(variants.c.product_id == products.c.id)
    .correlate(products)
    .scalar_subquery()
)

# What `messages.product` renders, of whichever products a statement chooses.
PRODUCT = sa.select(
    *(
        products.c[name]
        for name in ("id", "slug", "name", "description", "state", "category_ids", "attributes")
    ),
    products.c.media,
    products.c.default_variant_id,
    products.c.version,
    products.c.create_time,
    products.c.update_time,
    _written_by(products).label("written_by"),
    _variants_of_product.label("variants"),
)
# What `messages.variant` renders.
VARIANT = sa.select(variants.c.product_id, _VARIANT_JSON.label("variant")).select_from(_with_stock)

_PRODUCT_BY_ID = Statement(PRODUCT.where(products.c.id == _id()))
_PRODUCT_BY_SLUG = Statement(PRODUCT.where(products.c.slug == sa.bindparam("slug")))


def _wanted(column: sa.ColumnElement[Any]) -> Statement:
    """Products by many values of a column. As a subquery the array is not planned for anew."""
    keys = sa.select(sa.bindparam("keys", type_=ARRAY(column.type))).scalar_subquery()
    wanted = sa.func.unnest(keys).table_valued(sa.column("key", column.type)).render_derived()
    return Statement(PRODUCT.join(wanted, wanted.c.key == column))


_PRODUCTS_BY_ID = _wanted(products.c.id)
_PRODUCTS_BY_SLUG = _wanted(products.c.slug)
_WRITERS = Statement(
    sa.select(
        products.c.id,
        _written_by(products).label("written_by"),
        sa.select(
            sa.func.string_agg(
                _written_by(variants, stock),
                aggregate_order_by(sa.literal_column("' '"), variants.c.id),
            )
        )
        .select_from(_with_stock)
        .where(variants.c.product_id == products.c.id)
        .correlate(products)
        .scalar_subquery()
        .label("variants_written_by"),
    ).where(products.c.id == sa.any_(sa.bindparam("keys", type_=ARRAY(sa.Uuid))))
)
_LOCK_PRODUCT = Statement(
    sa.select(*(column for column in products.c if column.name != "search"))
    .where(products.c.id == _id())
    .with_for_update()
)
# Not part of the statement that locks: once that has waited, it still sees what was before.
_COUNT_VARIANTS = Statement(
    sa.select(sa.func.count()).select_from(variants).where(variants.c.product_id == _id())
)
_SETTABLE = ("slug", "name", "description", "state", "category_ids", "attributes", "media")
_INSERT_PRODUCT = Statement(
    insert(products)
    .values(_new(products, "id", *_SETTABLE, "default_variant_id", "price", "currency", "skus"))
    .on_conflict_do_nothing(index_elements=["slug"])
    .returning(products.c.id)
)
# The copies of variants' values that lists sort, filter and search by are written with each change.
_default = variants.alias("chosen")
_WRITE_PRODUCT = Statement(
    sa.update(products)
    .where(products.c.id == _id(), _default.c.id == _id("new_default"))
    .values(
        **_new(products, *_SETTABLE),
        default_variant_id=_default.c.id,
        price=_default.c.price,
        currency=_default.c.currency,
        skus=sa.select(
            sa.func.string_agg(
                variants.c.sku, aggregate_order_by(sa.literal_column("' '"), variants.c.id)
            )
        )
        .where(variants.c.product_id == products.c.id)
        .scalar_subquery(),
        **_changed(products),
    )
)

_VARIANT_BY_ID = Statement(VARIANT.where(variants.c.id == _id()))
_LOCK_VARIANT = Statement(
    sa.select(variants, stock.c.on_hand, stock.c.reserved, stock.c.allow_backorder)
    .select_from(_with_stock)
    .where(variants.c.id == _id(), variants.c.product_id == _id("of_product"))
    .with_for_update()
)
_VARIANT_COLUMNS = (
    "id",
    "product_id",
    "sku",
    "options",
    "price",
    "currency",
    "compare_at_price",
    "weight_grams",
)
_rows = (
    sa.func.unnest(
        *(sa.bindparam(name, type_=ARRAY(variants.c[name].type)) for name in _VARIANT_COLUMNS)
    )
    .table_valued(
        *(sa.column(name, variants.c[name].type) for name in _VARIANT_COLUMNS), name="row"
    )
    .render_derived()
)
_INSERT_VARIANTS = Statement(
    sa.insert(variants).from_select(
        list(_VARIANT_COLUMNS), sa.select(*(_rows.c[name] for name in _VARIANT_COLUMNS))
    )
)
_VARIANT_SETTABLE = ("sku", "options", "price", "currency", "compare_at_price", "weight_grams")
_WRITE_VARIANT = Statement(
    sa.update(variants)
    .where(variants.c.id == _id())
    .values(**_new(variants, *_VARIANT_SETTABLE), **_changed(variants))
)
_SET_BACKORDER = Statement(
    sa.update(stock).where(stock.c.variant_id == _id()).values(**_new(stock, "allow_backorder"))
)
_DELETE_VARIANT = Statement(sa.delete(variants).where(variants.c.id == _id()))
_OTHER_CURRENCIES = Statement(
    sa.select(variants.c.currency)
    .distinct()
    .where(variants.c.product_id == _id("of_product"), variants.c.id != _id())
)
_OLDEST_OTHER = Statement(
    sa.select(variants.c.id)
    .where(variants.c.product_id == _id("of_product"), variants.c.id != _id())
    .order_by(variants.c.id)
    .limit(1)
)


_ID_FORM = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


@contextmanager
def _unique(sku_field: str = "sku", options_field: str = "options") -> Iterator[None]:
    """Turn what a unique index refuses into the error that says so."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        match error.constraint_name:
            case "products_slug" | "categories_slug":
                raise rules.slug_taken() from None
            case "variants_sku":
                raise rules.sku_taken(sku_field) from None
            case "variants_options":
                raise rules.options_taken(options_field) from None
        raise


def product_id(text: str) -> UUID | None:
    """The id that `text` spells; None for a slug, which never looks like one."""
    return UUID(text) if _ID_FORM.fullmatch(text) else None


async def products_by_id(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, Row]:
    """The products with these ids, as far as they exist."""
    if len(ids) == 1:
        rows = await _PRODUCT_BY_ID.all(connection, row_id=ids[0])
    else:
        rows = await _PRODUCTS_BY_ID.all(connection, keys=list(ids))
    return {row["id"]: row for row in rows}


async def products_by_slug(connection: Connection, slugs: Sequence[str]) -> dict[str, Row]:
    """The products with these slugs, as far as they exist."""
    if len(slugs) == 1:
        rows = await _PRODUCT_BY_SLUG.all(connection, slug=slugs[0])
    else:
        rows = await _PRODUCTS_BY_SLUG.all(connection, keys=list(slugs))
    return {row["slug"]: row for row in rows}


def writers(row: Fields) -> str:
    """Who has written a product and its variants as they are in a row of `PRODUCT`.

    It is another text once anything of it has been written again, by this program or by hand.
    """
    items = sorted(row["variants"], key=lambda item: str(item["id"]))
    return " ".join([row["written_by"], *(item["written_by"] for item in items)])


async def writers_of(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, str]:
    """What `writers` says now of the products with these ids, as far as they exist."""
    rows = await _WRITERS.all(connection, keys=list(ids))
    return {row["id"]: f"{row['written_by']} {row['variants_written_by']}" for row in rows}


async def get_product(connection: Connection, id: str) -> Row:
    """A product by its id. Raises NOT_FOUND."""
    row = await _PRODUCT_BY_ID.first(connection, row_id=UUID(id))
    if row is None:
        raise errors.not_found("product", id)
    return row


async def lock_product(tx: Connection, id: str) -> Row:
    """A product's own row, locked until the end. Raises NOT_FOUND."""
    row = await _LOCK_PRODUCT.first(tx, row_id=UUID(id))
    if row is None:
        raise errors.not_found("product", id)
    return row


async def count_variants(tx: Connection, product_id: UUID) -> int:
    """How many variants a locked product has."""
    return int(await _COUNT_VARIANTS.value(tx, row_id=product_id))


async def insert_product(
    tx: Connection,
    id: UUID,
    columns: Mapping[str, Any],
    slugs: Sequence[str],
    variants: Sequence[Mapping[str, Any]],
) -> None:
    """Add a product's own row, under the first of the `slugs` that is free. Raises ALREADY_EXISTS.

    The first of `variants` is the default; they are inserted separately.
    """
    default = variants[0]
    values = {
        **columns,
        "id": id,
        "default_variant_id": default["id"],
        "price": default["price"],
        "currency": default["currency"],
        "skus": " ".join(variant["sku"] for variant in variants),
    }
    for slug in slugs:
        arguments = {f"new_{name}": value for name, value in {**values, "slug": slug}.items()}
        if await _INSERT_PRODUCT.value(tx, **arguments) is not None:
            return
    raise rules.slug_taken()


async def write_product(
    tx: Transaction, row: Row, changes: Mapping[str, Any], default_variant_id: UUID | None = None
) -> None:
    """Change a locked product and bring its copies of its variants' values up to date.

    `changes` maps columns to values; the others keep what `row` holds.
    """
    arguments = {f"new_{name}": changes.get(name, row[name]) for name in _SETTABLE}
    tx.changed(row["id"])
    with _unique():
        await _WRITE_PRODUCT.run(
            tx,
            row_id=row["id"],
            new_default=default_variant_id or row["default_variant_id"],
            **arguments,
        )


async def insert_variants(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add variants, without stock. Raises ALREADY_EXISTS for a SKU or options that are taken."""
    arrays = {name: [row[name] for row in rows] for name in _VARIANT_COLUMNS}
    one = len(rows) == 1
    with _unique("sku" if one else "variants", "options" if one else "variants"):
        await _INSERT_VARIANTS.run(tx, **arrays)


async def get_variant(connection: Connection, id: UUID) -> Row:
    """A variant with its stock. Raises NOT_FOUND."""
    row = await _VARIANT_BY_ID.first(connection, row_id=id)
    if row is None:
        raise errors.not_found("variant", id)
    return row


async def lock_variant(tx: Connection, product_id: UUID, id: UUID) -> Row:
    """A product's variant with its stock, both locked until the end. Raises NOT_FOUND."""
    row = await _LOCK_VARIANT.first(tx, row_id=id, of_product=product_id)
    if row is None:
        raise errors.not_found("variant", id)
    return row


async def write_variant(tx: Connection, row: Row, changes: Mapping[str, Any]) -> None:
    """Change a locked variant; columns that `changes` does not name keep what `row` holds."""
    arguments = {f"new_{name}": changes.get(name, row[name]) for name in _VARIANT_SETTABLE}
    with _unique():
        await _WRITE_VARIANT.run(tx, row_id=row["id"], **arguments)


async def set_backorder(tx: Connection, row: Row, allowed: bool) -> None:
    """Let a locked variant be ordered without stock, or no longer."""
    await _SET_BACKORDER.run(tx, row_id=row["id"], new_allow_backorder=allowed)


async def delete_variant(tx: Connection, id: UUID) -> None:
    """Remove a variant and its stock; the ledger stays."""
    await _DELETE_VARIANT.run(tx, row_id=id)


async def other_currencies(tx: Connection, product_id: UUID, id: UUID) -> list[str]:
    """The currencies of a product's variants but one."""
    rows = await _OTHER_CURRENCIES.all(tx, of_product=product_id, row_id=id)
    return [row["currency"] for row in rows]


async def oldest_other_variant(tx: Connection, product_id: UUID, id: UUID) -> UUID:
    """The oldest of a product's variants but one."""
    found: UUID = await _OLDEST_OTHER.value(tx, of_product=product_id, row_id=id)
    return found
