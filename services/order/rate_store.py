"""Every statement on shipping rates and tax rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from services.kit import errors
from services.kit.db import Connection, Row, Statement
from services.kit.statements import Fields
from services.order.tables import shipping_rates, tax_rates
from shop.errors.v1 import reason_pb2

_ID = sa.bindparam("row_id", type_=sa.Uuid)


class Rates:
    """The statements on one of the two tables; `key` is what there is one rate for."""

    def __init__(
        self, resource: str, table: sa.Table, key: Sequence[str], others: Sequence[str]
    ) -> None:
        self._resource = resource
        self._columns = (*key, *others)
        new = {
            name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in self._columns
        }
        self._insert = Statement(sa.insert(table).values(new | {"id": _ID}).returning(table))
        self._get = Statement(sa.select(table).where(table.c.id == _ID))
        self._lock = Statement(sa.select(table).where(table.c.id == _ID).with_for_update())
        self._write = Statement(
            sa.update(table)
            .where(table.c.id == _ID)
            .values(new | {"version": table.c.version + 1, "update_time": sa.func.now()})
            .returning(table)
        )
        self._delete = Statement(sa.delete(table).where(table.c.id == _ID))
        after = sa.tuple_(*(table.c[name] for name in key)) > sa.tuple_(
            *(sa.bindparam(f"after_{name}", type_=table.c[name].type) for name in key)
        )
        first = [table.c[name] for name in key]
        limit = sa.bindparam("most", type_=sa.Integer)
        self._first_page = Statement(sa.select(table).order_by(*first).limit(limit))
        self._next_page = Statement(sa.select(table).where(after).order_by(*first).limit(limit))
        self._key = key

    async def insert(self, tx: Connection, id: UUID, columns: Mapping[str, Any]) -> Row:
        """Add a rate. Raises ALREADY_EXISTS (RATE_TAKEN)."""
        values = {f"new_{name}": columns[name] for name in self._columns}
        try:
            return await self._insert.one(tx, row_id=id, **values)
        except asyncpg.UniqueViolationError:
            raise _taken() from None

    async def get(self, connection: Connection, id: UUID) -> Row:
        """A rate. Raises NOT_FOUND."""
        return self._found(await self._get.first(connection, row_id=id), id)

    async def lock(self, tx: Connection, id: UUID) -> Row:
        """A rate, locked until the end. Raises NOT_FOUND."""
        return self._found(await self._lock.first(tx, row_id=id), id)

    def _found(self, row: Row | None, id: UUID) -> Row:
        if row is None:
            raise errors.not_found(self._resource, id)
        return row

    async def write(self, tx: Connection, row: Row, changes: Mapping[str, Any]) -> Row:
        """Change a locked rate; columns not in `changes` stay. Raises ALREADY_EXISTS."""
        values = {f"new_{name}": changes.get(name, row[name]) for name in self._columns}
        try:
            return await self._write.one(tx, row_id=row["id"], **values)
        except asyncpg.UniqueViolationError:
            raise _taken() from None

    async def delete(self, tx: Connection, id: UUID) -> None:
        """Remove a rate."""
        await self._delete.run(tx, row_id=id)

    async def page(
        self, connection: Connection, after: Sequence[str] | None, most: int
    ) -> list[Row]:
        """Up to `most` rates in the order of their key, after one."""
        if after is None:
            return await self._first_page.all(connection, most=most)
        key = {f"after_{name}": part for name, part in zip(self._key, after, strict=True)}
        return await self._next_page.all(connection, most=most, **key)


SHIPPING = Rates(
    "shipping_rate", shipping_rates, ("region_code", "currency"), ("price", "free_over")
)
TAX = Rates("tax_rate", tax_rates, ("region_code",), ("rate_ppm", "included"))


def _nearest(
    table: sa.Table, region: sa.ColumnElement[str], *where: sa.ColumnElement[bool]
) -> sa.FromClause:
    """The rate of the country, else the one of all others: its code is empty, and sorts first."""
    return (
        sa.select(table)
        .where(sa.or_(table.c.region_code == region, table.c.region_code == ""))
        .where(*where)
        .order_by(table.c.region_code.desc())
        .limit(1)
        .lateral()
    )


def add_rates(rows: sa.Select[Any], *, region: sa.ColumnElement[str]) -> sa.Select[Any]:
    """`rows` with what `totals.totals` calculates with, for a country and `of_currency`."""
    of_currency = shipping_rates.c.currency == sa.bindparam("of_currency", type_=sa.Text)
    shipping = _nearest(shipping_rates, region, of_currency)
    tax = _nearest(tax_rates, region)
    (source,) = rows.get_final_froms()
    return rows.add_columns(
        shipping.c.price, shipping.c.free_over, tax.c.rate_ppm, tax.c.included
    ).select_from(source.outerjoin(shipping, sa.true()).outerjoin(tax, sa.true()))


_one = sa.select(sa.literal_column("1").label("one")).subquery("one")
_RATES = Statement(add_rates(sa.select(_one.c.one), region=sa.bindparam("region", type_=sa.Text)))


async def rates(connection: Connection, region_code: str, currency: str) -> Row:
    """What `totals.totals` calculates with, for a country and a currency."""
    return await _RATES.one(connection, region=region_code, of_currency=currency)


def of_region(region: sa.ColumnElement[str]) -> list[sa.ColumnElement[Any]]:
    """All rates for a country, as columns of a statement that does not know the currency yet.

    `within` makes of them what `totals.totals` calculates with.
    """

    def listed(table: sa.Table, *names: str) -> sa.ColumnElement[Any]:
        rate = sa.func.jsonb_build_array(*(table.c[name] for name in names))
        # The country's own come last, and win.
        return (
            sa.select(sa.func.jsonb_agg(aggregate_order_by(rate, table.c.region_code)))
            .where(sa.or_(table.c.region_code == region, table.c.region_code == ""))
            .scalar_subquery()
            .label(table.name)
        )

    return [
        listed(shipping_rates, "currency", "price", "free_over"),
        listed(tax_rates, "rate_ppm", "included"),
    ]


def within(row: Fields, currency: str) -> Fields:
    """What `totals.totals` calculates with, from a row with the columns of `of_region`."""
    shipping = {rate[0]: rate[1:] for rate in row["shipping_rates"] or ()}
    price, free_over = shipping.get(currency, (None, None))
    rate_ppm, included = row["tax_rates"][-1] if row["tax_rates"] else (None, None)
    return {"price": price, "free_over": free_over, "rate_ppm": rate_ppm, "included": included}


def _taken() -> errors.ServiceError:
    return errors.already_exists(
        reason_pb2.REASON_RATE_TAKEN, "region_code", "There is a rate for this country already."
    )
