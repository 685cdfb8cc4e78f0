"""Frequent terms, and which of them some product has together.

That no product has two terms is a fact here, not a guess: a trigger notes each meeting in the
transaction that writes the product, and a term counts only when it is `complete`, as all products
have been looked at since every trigger has known it. No meeting is forgotten. So what nobody has
together is not searched, which would mean to read all entries of the rarer one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from services.catalog.search_statistics import Known, Statistics
from services.catalog.tables import frequent_terms, products
from services.kit import logs
from services.kit.db import Database, Statement

log = logs.logger("meetings")

# In a smaller catalogue, all entries of a term are read at once.
LEAST_PRODUCTS = 5000
# Rarer ones are found out soon enough.
LEAST_SHARE = 0.01
# As many as `met` has room for.
MOST_TERMS = 1024
# Products of one statement.
BATCH = 1000
# Who began so long ago, and has not come to an end, was ended.
ABANDONED = "1 hour"
# Between two looks at who still writes, and what a batch is followed by, in its own time.
WAIT_SECONDS = 0.1
REST = 1.0
_FIRST = UUID(int=0)
_NONE: sa.ColumnElement[Any] = sa.literal_column("B'0'::bit(1024)")


def _terms() -> sa.BindParameter[Any]:
    return sa.bindparam("terms", type_=ARRAY(sa.Text))


def _begin() -> Statement:
    """Terms that nobody has begun with, each with the next number."""
    wanted: Any = sa.func.unnest(_terms()).table_valued(
        sa.column("term", sa.Text), with_ordinality="place", name="wanted"
    )
    wanted = wanted.render_derived()
    term = wanted.c.term.collate("C")
    place = sa.func.row_number().over(order_by=wanted.c.place)
    last = sa.select(sa.func.coalesce(sa.func.max(frequent_terms.c.number), -1)).scalar_subquery()
    new = (
        sa.select(term.label("term"), (last + place).label("number"))
        .where(~sa.exists().where(frequent_terms.c.term == term))
        .subquery()
    )
    added = (
        insert(frequent_terms)
        .from_select(
            ["term", "number"], sa.select(new).where(new.c.number < sa.literal(MOST_TERMS))
        )
        .on_conflict_do_nothing()
    )
    return Statement(added.returning(frequent_terms.c.term))


_BEGIN = _begin()
_ADOPT = Statement(
    sa.update(frequent_terms)
    .where(
        ~frequent_terms.c.complete,
        frequent_terms.c.begin_time
        < sa.func.now() - sa.literal_column(f"interval '{ABANDONED}'", sa.Interval),
    )
    .values(begin_time=sa.func.now())
    .returning(frequent_terms.c.term)
)
_COMPLETE = Statement(
    sa.update(frequent_terms)
    .where(frequent_terms.c.term == sa.any_(_terms()))
    .values(complete=sa.true())
)
# Whoever writes and may not know the terms yet has a lower number than this, while it is not over.
_NOW = Statement(sa.select(sa.literal_column("pg_snapshot_xmax(pg_current_snapshot())::text")))
_OLDEST = Statement(sa.select(sa.literal_column("pg_snapshot_xmin(pg_current_snapshot())::text")))


def _meet() -> Statement:
    """The terms of the next products meet; the last of these products, or None behind all."""
    following = (
        sa.select(products.c.id)
        .where(products.c.id > sa.bindparam("last", type_=sa.Uuid))
        .order_by(products.c.id)
        .limit(sa.bindparam("most", type_=sa.Integer))
    )
    ids = sa.func.array(following.scalar_subquery(), type_=ARRAY(sa.Uuid)).label("ids")
    batch = sa.select(ids).cte("batch").prefix_with("MATERIALIZED")
    last = batch.c.ids[sa.func.cardinality(batch.c.ids, type_=sa.Integer)]
    return Statement(sa.select(last.label("last"), sa.func.catalog.meet(batch.c.ids)))


_MEET = _meet()


def frequent(known: Known) -> list[str]:
    """The terms that are worth it, the most frequent ones first."""
    kinds = (known.everywhere, known.categories, known.facets)
    shares = [
        (share, term)
        for kind in kinds
        for term, share in kind.named.items()
        if share >= LEAST_SHARE
    ]
    return [term for _, term in sorted(shares, reverse=True)[:MOST_TERMS]]


async def follow(database: Database, statistics: Statistics) -> None:
    """Follow what is frequent now, too; for a background task."""
    if statistics.known.products >= LEAST_PRODUCTS:
        await learn(database, statistics.known)


async def learn(database: Database, known: Known, *, rest: float = REST) -> int:
    """Look at all products for what is frequent and not followed yet; how many terms that were.

    After each batch it rests, `rest` times as long as that took.
    """
    async with database.connection() as connection:
        begun = await _BEGIN.all(connection, terms=frequent(known))
        terms = [row["term"] for row in [*begun, *await _ADOPT.all(connection)]]
    if not terms:
        return 0
    await _wait_for_writers(database)
    await _look_at_all(database, rest)
    async with database.connection() as connection:
        await _COMPLETE.run(connection, terms=terms)
    log.info("frequent terms are followed", terms=len(terms))
    return len(terms)


async def _wait_for_writers(database: Database) -> None:
    """Until all transactions are over that began before now."""
    began: int | None = None
    while True:
        async with database.connection() as connection:
            began = int(await _NOW.value(connection)) if began is None else began
            if int(await _OLDEST.value(connection)) >= began:
                return
        await asyncio.sleep(WAIT_SECONDS)


async def _look_at_all(database: Database, rest: float) -> None:
    clock = asyncio.get_running_loop().time
    last: UUID | None = _FIRST
    while last is not None:
        began = clock()
        async with database.connection() as connection:
            last = await _MEET.value(connection, last=last, most=BATCH)
        await asyncio.sleep((clock() - began) * rest)


def may_meet(groups: Sequence[tuple[str, ...]]) -> tuple[list[int], list[str]]:
    """The parameters `group_numbers` and `group_terms` of `have_met`: each group is any of its."""
    numbers = [number for number, group in enumerate(groups) for _ in group]
    return numbers, [term for group in groups for term in group]


def have_met() -> sa.ColumnElement[bool]:
    """Whether any two of some groups of terms have met, as far as that is known."""
    wanted: Any = sa.func.unnest(
        sa.bindparam("group_numbers", type_=ARRAY(sa.Integer)),
        sa.bindparam("group_terms", type_=ARRAY(sa.Text)),
    ).table_valued(sa.column("number", sa.Integer), sa.column("term", sa.Text), name="wanted")
    wanted = wanted.render_derived()
    known = frequent_terms.alias("known")
    own = sa.func.bit_or(sa.func.set_bit(_NONE, known.c.number, 1))
    groups = (
        sa.select(wanted.c.number, sa.func.bit_or(known.c.met).label("met"), own.label("own"))
        .select_from(
            wanted.outerjoin(known, (known.c.term == wanted.c.term.collate("C")) & known.c.complete)
        )
        .group_by(wanted.c.number)
        .having(sa.func.count(known.c.term) == sa.func.count())
        .cte("groups")
        .prefix_with("MATERIALIZED")
    )
    one, other = groups.alias("one"), groups.alias("other")
    together = one.c.met.op("&")(other.c.own)
    strangers = sa.select(one.c.number).where(one.c.number < other.c.number, together == _NONE)
    return ~sa.exists(strangers)
