"""The statements of lists of products, one for each combination of order and filters.

A page begins after a key, in the order of an index, so it costs the same at any depth. What is
asked for beside the order is looked for in three ways:

- `near`: the next `reach` products in order, one by one, until the page is full. What many
  products have is found here at once.
- `span`: matches among the next products in order, by the inverted index (GIN) of words, facets,
  categories and moments, sorted.
- `all`: every match, from the same index, sorted. Where it is known beforehand that there are few,
  this is the whole statement. It also follows each of the others, where the page is not full.

So none depends on Postgres' guess of how many products match, and a statement may be planned once
for all values: `search_costs` says which of them is right. A category has orders
of its own (`product_categories`), and is looked through together with those below it. `relevance`
is three lists, each looked at where those before it do not fill the page: products whose names
begin with the search, by name; others with all its words in the name; the others; both newest
first. No rank is computed, as that would mean to read every product that has a frequent word.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from services.catalog import search_meetings, search_spans
from services.catalog.search_lists import (
    BEGINNING,
    CATEGORIES,
    Clause,
    Columns,
    List,
    Shape,
    bind,
    conditions_of_all,
    facets,
    lists,
    match,
    number,
)
from services.catalog.tables import product_categories, products
from services.kit.db import Statement

_MOST = bind("most", sa.Integer)
# What conditions look at, beside the id.
_FILTERED = [products.c[name] for name in ("price", "currency", "attributes", "name_key", "search")]


def looked_through(shape: Shape) -> list[List]:
    """The lists whose products have to fulfil something: each is looked through in some way."""
    return [part for part in lists(shape) if part.conditions]


def _reach(part: List) -> sa.BindParameter[Any]:
    return bind(f"{part.name}_reach", sa.Integer)


def _in_order(part: List, columns: Columns) -> list[sa.ColumnElement[Any]]:
    order = [columns.id] if part.key is None else [columns.key, columns.id]
    return [column.desc() for column in order] if part.descending else order


def _after(part: List, columns: Columns) -> Clause:
    """Behind the key where the page begins: one condition, as of two bounds an index takes one."""
    last = bind(f"{part.name}_id", sa.Uuid)
    if part.key is None:
        newest: Clause = columns.id < last
        return newest
    column = columns[part.key]
    key: sa.ColumnElement[Any] = bind(f"{part.name}_key", column.type)
    if part.first is not None:
        key = sa.func.greatest(key, part.first)
    here, there = sa.tuple_(column, columns.id), sa.tuple_(key, last)
    return here < there if part.descending else here > there


def _place(part: List, columns: Columns) -> list[Clause]:
    """What makes a product one of the list, behind the place where the page begins."""
    state = columns.state == bind("state", sa.SmallInteger)
    return [state, _after(part, columns), *part.until(columns)]


def _key(part: List, columns: Columns) -> sa.ColumnElement[Any]:
    key = sa.literal_column("''", sa.Text) if part.key is None else columns[part.key]
    return key.label("key")


def _ahead(part: List, table: Any, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """The products of the list from where the page begins: `columns`, id and key."""
    return sa.select(*columns, table.c.id, _key(part, table.c)).where(*_place(part, table.c))


def _find(part: List, gates: list[Clause], shape: Shape) -> sa.Select[Any]:
    """Up to `most` products of one list: id, key. Nothing is read unless all `gates` are true."""
    by_category = shape.category
    if part.name in shape.spans:
        near, is_incomplete = _in_span(part, gates, shape)
    else:
        look = _in_categories if by_category else _in_catalogue
        near, is_incomplete = look(part, gates)
    hits = near.cte(f"{part.name}_near")
    found = sa.select(hits.c.id, hits.c.key)
    if is_incomplete is not None:
        conditions = [condition.all(products.c) for condition in part.conditions]
        conditions += _indexed(shape)
        every = _matches(part, *gates, is_incomplete(hits), *conditions).cte(f"{part.name}_all")
        rest = _first(part, every.prefix_with("MATERIALIZED")).subquery()
        found = sa.union(found, sa.select(rest.c.id, rest.c.key)).subquery().select()
    elif by_category:
        found = found.distinct()
    once = found.subquery()
    return sa.select(once.c.id, once.c.key).order_by(*_in_order(part, once.c)).limit(_MOST)


def _indexed(shape: Shape) -> list[Clause]:
    """What the inverted index is asked for beside words."""
    categories = [products.c.category_ids.overlap(CATEGORIES)] if shape.category else []
    return [*categories, *facets(shape)]


def _matches(part: List, *conditions: Clause) -> sa.Select[Any]:
    """All products of the list with these conditions, as the inverted index finds them.

    IS TRUE keeps the indexes of orders out of it: half of one costs more than all of the few rows
    that the other finds.
    """
    place = sa.and_(*_place(part, products.c)).is_(sa.true())
    return sa.select(products.c.id, _key(part, products.c)).where(*conditions, place)


def _first(part: List, matches: sa.CTE) -> sa.Select[Any]:
    return sa.select(matches).order_by(*_in_order(part, matches.c)).limit(_MOST)


IsIncomplete = Callable[[sa.CTE], Clause] | None


def _in_span(part: List, gates: list[Clause], shape: Shape) -> tuple[sa.Select[Any], IsIncomplete]:
    """The products of the list that its span has, part by part until they are enough, and whether
    they are too few.
    """
    until = bind(f"{part.name}_until", sa.Uuid)
    # There may be products of the future, which are not in the span.
    later = sa.select(products.c.id).where(*_place(part, products.c), products.c.id >= until)
    here = _once(f"{part.name}_here", *gates, ~sa.exists(later.correlate(None)))
    moments = sa.func.catalog.moments(products.c.id, type_=ARRAY(sa.BigInteger))
    found: list[sa.CTE] = []
    behind: list[Clause] = []
    for nth in range(len(search_spans.PARTS)):
        since = bind(f"{part.name}_since_{nth}", sa.Uuid)
        matches = _matches(
            part,
            here,
            *([sum(map(_count, found)) < _MOST] if found else []),
            moments.overlap(bind(f"{part.name}_cells_{nth}", ARRAY(sa.BigInteger))),
            *(condition.of_few(products.c) for condition in part.conditions),
            *_indexed(shape),
            *behind,
            (products.c.id >= since).is_(sa.true()),
        )
        found.append(matches.cte(f"{part.name}_span_{nth}").prefix_with("MATERIALIZED"))
        behind = [(products.c.id < since).is_(sa.true())]
    span = sa.union_all(*map(sa.select, found)).cte(f"{part.name}_span")
    return _first(part, span), lambda found: _count(found) < _MOST


def _in_catalogue(part: List, gates: list[Clause]) -> tuple[sa.Select[Any], IsIncomplete]:
    """The `near` products among all, and whether there may be others behind them."""
    if not part.conditions:
        every = _ahead(part, products).where(*gates).subquery()
        return sa.select(every).order_by(*_in_order(part, every.c)).limit(_MOST), None
    ordered = _ahead(part, products, *_FILTERED)
    ordered = ordered.order_by(*_in_order(part, ordered.selected_columns)).limit(_reach(part))
    near = ordered.subquery()
    hits = (
        sa.select(near.c.id, near.c.key)
        .where(*gates, *(condition.near(near.c) for condition in part.conditions))
        .order_by(*_in_order(part, near.c))
        .limit(_MOST)
    )
    is_far = _count(_ahead(part, products).limit(_reach(part)).subquery()) == _reach(part)
    return hits, lambda found: (_count(found) < _MOST) & is_far


def _in_categories(part: List, gates: list[Clause]) -> tuple[sa.Select[Any], IsIncomplete]:
    """The same for categories, each of which has its own order."""
    source = sa.func.unnest(CATEGORIES).table_valued(sa.column("id", sa.Uuid))
    source = source.render_derived(name="source")
    in_category = product_categories.c.category_id == source.c.id
    ordered = _ahead(part, product_categories).where(in_category).correlate(source)
    if not part.conditions:
        first = ordered.order_by(*_in_order(part, ordered.selected_columns)).limit(_MOST).lateral()
        return sa.select(source.c.id.label("source"), first).where(*gates), None
    far = ordered.limit(_reach(part)).subquery()
    in_order = ordered.order_by(*_in_order(part, ordered.selected_columns))
    near = in_order.limit(_reach(part)).subquery()
    # As a scalar it is asked of one product at a time, in order; as a join it might not be.
    fulfils = (
        sa.select(products.c.id)
        .where(
            products.c.id == near.c.id,
            *(condition.near(products.c) for condition in part.conditions),
        )
        .scalar_subquery()
        .is_not(None)
    )
    first = (
        sa.select(near.c.id, near.c.key)
        .where(fulfils)
        .order_by(*_in_order(part, near.c))
        .limit(_MOST)
        .lateral()
    )
    hits = sa.select(source.c.id.label("source"), first).where(*gates)

    def is_incomplete(found: sa.CTE) -> Clause:
        of_source = (
            sa.select(found.c.id).where(found.c.source == source.c.id).correlate(source).subquery()
        )
        is_short, is_far = _count(of_source) < _MOST, _count(far) == _reach(part)
        return sa.exists(sa.select(source.c.id).where(is_short, is_far).correlate(None))

    return hits, is_incomplete


def _once(name: str, *conditions: Clause) -> Clause:
    """Conditions of no row in particular: they are found out once, wherever they stand."""
    known = sa.select(sa.and_(*conditions).label("so")).cte(name)
    return sa.select(known.prefix_with("MATERIALIZED")).scalar_subquery()


def _count(rows: sa.FromClause) -> sa.ScalarSelect[Any]:
    return sa.select(sa.func.count()).select_from(rows).scalar_subquery()


def _found(parts: list[List], shape: Shape) -> sa.Select[Any]:
    """The products of the page as rows of place (of the list), key and id."""
    found: list[sa.CTE] = []
    possible = _possible(shape)
    for place, part in enumerate(parts):
        gates: list[Clause] = [*possible, *(_count(before) < _MOST for before in found)]
        if len(parts) > 1:
            # The page begins in the list at `place`, and goes on in those behind it.
            gates.append(bind("place", sa.Integer) <= number(place))
            gates = [_once(f"{part.name}_open", *gates)]
        found.append(_find(part, gates, shape).cte(f"{part.name}_found"))
    rows = sa.union_all(
        *(
            sa.select(number(place).label("place"), one.c.key, one.c.id)
            for place, one in enumerate(found)
        )
    ).subquery()
    return sa.select(rows)


def _possible(shape: Shape) -> list[Clause]:
    """Whether there can be any match: found out once, for all lists."""
    if not shape.terms:
        return []
    return [_once("possible", search_meetings.have_met())]


def _every(parts: list[List], shape: Shape) -> sa.Select[Any]:
    """The same where all matches are read at once, whatever list they are in."""
    indexed = [*_indexed(shape), *_possible(shape)]
    if len(parts) == 1:
        conditions = [condition.of_few(products.c) for condition in parts[0].conditions]
        matches = _matches(parts[0], *conditions, *indexed)
        every = matches.add_columns(number(0).label("place")).cte("every")
    else:
        begins, named, after = parts
        is_named = match(products.c.search, "name_words")
        begun = sa.func.starts_with(products.c.name_key, BEGINNING)
        place = sa.case(
            (~is_named, number(2)),
            (~begun, number(1)),
            else_=number(0),
        )
        state = (products.c.state == bind("state", sa.SmallInteger)).is_(sa.true())
        found = (
            sa.select(products.c.id, products.c.name_key, place.label("place"))
            .where(*conditions_of_all(shape), *indexed, state)
            .cte("found")
            .prefix_with("MATERIALIZED")
        )
        behind = [
            (found.c.place == number(index)) & _after(part, found.c)
            for index, part in enumerate((begins, named, after))
        ]
        key = sa.case((found.c.place == number(0), found.c.name_key), else_="")
        every = (
            sa.select(found.c.id, key.label("key"), found.c.place)
            .where(found.c.place >= bind("place", sa.Integer), sa.or_(*behind))
            .cte("every")
        )
    return sa.select(every.prefix_with("MATERIALIZED"))


@cache
def page(shape: Shape) -> Statement:
    """Products by their `id`, each with its `place` and `key`.

    Parameters: `state`, `most`, those of the filters and of the ways they are looked for, and the
    key after which the page begins: `after_id` and, unless the order is newest, `after_key`; for
    relevance `place`, and a key for each list: `begins_key`, `begins_id`, `named_id`, `after_id`.
    """
    parts = lists(shape)
    look = _every if shape.every else _found
    found = look(parts, shape).subquery("page")
    if len(parts) == 1:
        order = _in_order(parts[0], found.c)
    else:
        id_by_name = sa.case((found.c.place == number(0), found.c.id))
        order = [found.c.place, found.c.key, id_by_name, found.c.id.desc()]
    return Statement(sa.select(found).order_by(*order).limit(_MOST))
