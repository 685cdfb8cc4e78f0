"""The statements of lists of products, one for each combination of order and filters.

A page begins after a key, in the order of an index, so it costs the same at any depth. What is
asked for beside the order is looked for in two ways, one after the other, in the same statement:

1. `near`: the next `reach` products in order, one by one, until the page is full. What many
   products have is found here at once.
2. `all`: only where the page is not full by then, so what is asked for is rare: every match, from
   the inverted indexes (GIN) of words, attributes and categories, sorted.

So neither depends on Postgres' guess of how many products match, and a statement may be planned
once for all values. `relevance` is three such lists, each looked at where those before it do not
fill the page: products whose names begin with the search, by name; others with all its words in
the name; the others; both newest first. No rank is computed, as that would mean to read every
product that has a frequent word.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY

from services.catalog.store import PRODUCT
from services.catalog.tables import products, spellings, stock, variants
from services.kit.db import Statement

# No text has a later character: what begins with `x` is between `x` and `x` with this behind it.
_LAST_CHARACTER = sa.literal_column(r"U&'\+10FFFF'", sa.Text)

Clause = sa.ColumnElement[bool]
Columns = Any


class Shape(NamedTuple):
    """What a statement's text depends on: the order, and which filters there are."""

    order: str
    category: bool = False
    price: bool = False
    currency: bool = False
    in_stock: bool = False
    attributes: bool = False
    words: bool = False


class Condition(NamedTuple):
    """What products have to fulfil, as it is asked of one product, and of all."""

    near: Callable[[Columns], Clause]
    all: Callable[[Columns], Clause]


class List(NamedTuple):
    """Products in the order of an index: where it begins and ends, and what they have to fulfil."""

    name: str
    key: sa.ColumnElement[Any] | None = None
    descending: bool = False
    first: sa.ColumnElement[Any] | None = None
    until: tuple[Clause, ...] = ()
    conditions: tuple[Condition, ...] = ()


def _bind(name: str, type_: Any = sa.Text) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=type_)


def _both(condition: Callable[[Columns], Clause]) -> Condition:
    return Condition(condition, condition)


def _match(vector: Any, words: str) -> Clause:
    matches: Clause = vector.op("@@", is_comparison=True)(sa.cast(_bind(words), TSQUERY))
    return matches


def _number(number: int) -> sa.ColumnElement[int]:
    """A number in the statement's text: as a parameter it would keep an index from being used."""
    return sa.literal_column(str(number), sa.Integer)


_FILTERED = [
    products.c[name]
    for name in (
        "id",
        "price",
        "currency",
        "category_ids",
        "attributes",
        "name_key",
        "search",
    )
]
_MOST, _REACH = _bind("most", sa.Integer), _bind("reach", sa.Integer)
_COLUMNS = products.c
_BEGINNING = sa.func.left(sa.func.lower(_bind("begins")), _number(100), type_=sa.Text).collate("C")
_BUYABLE = (
    sa.select(variants.c.product_id)
    .select_from(variants.join(stock, stock.c.variant_id == variants.c.id))
    .where(stock.c.allow_backorder | (stock.c.on_hand > stock.c.reserved))
)


def _is_buyable(columns: Columns) -> Clause:
    """For one product at a time; as EXISTS, Postgres might compute it for all of them first."""
    one = _BUYABLE.where(variants.c.product_id == columns.id).limit(_number(1))
    return one.scalar_subquery().is_not(None)


_CATEGORY = _both(lambda columns: columns.category_ids.overlap(_bind("categories", ARRAY(sa.Uuid))))
_CHEAPEST, _DEAREST = _bind("min_price", sa.BigInteger), _bind("max_price", sa.BigInteger)
_PRICE = _both(lambda columns: columns.price.between(_CHEAPEST, _DEAREST))
_CURRENCY = _both(lambda columns: columns.currency == _bind("currency"))
_ATTRIBUTES = _both(
    lambda columns: columns.attributes.contains(_bind("attributes", _COLUMNS.attributes.type))
)
_IN_STOCK = Condition(_is_buyable, lambda columns: columns.id.in_(_BUYABLE))
_WORDS = _both(lambda columns: _match(columns.search, "words"))
# The index of all words does not know which of them are in names; there is another one for those.
_NAMED = Condition(
    lambda columns: _match(columns.search, "name_words"),
    lambda columns: _match(sa.func.catalog.words(columns.name), "words"),
)
_NOT_NAMED = _both(lambda columns: ~_match(columns.search, "name_words"))
_NOT_BEGINNING = _both(lambda columns: ~sa.func.starts_with(columns.name_key, _BEGINNING))


def _lists(shape: Shape) -> list[List]:
    filters = [
        (shape.currency, _CURRENCY),
        (shape.category, _CATEGORY),
        (shape.attributes, _ATTRIBUTES),
        (shape.in_stock, _IN_STOCK),
    ]
    conditions = tuple(condition for wanted, condition in filters if wanted)
    if shape.order in ("price", "-price"):
        descending = shape.order == "-price"
        until = _COLUMNS.price >= _CHEAPEST if descending else _COLUMNS.price <= _DEAREST
        conditions += (_WORDS,) if shape.words else ()
        return [
            List(
                "after",
                _COLUMNS.price,
                descending,
                until=(until,) if shape.price else (),
                conditions=conditions,
            )
        ]
    if shape.price:
        conditions += (_PRICE,)
    if shape.order == "relevance":
        return [
            List(
                "begins",
                _COLUMNS.name_key,
                first=_BEGINNING,
                until=(_COLUMNS.name_key < _BEGINNING.concat(_LAST_CHARACTER),),
                conditions=(*conditions, _NAMED),
            ),
            List("named", descending=True, conditions=(*conditions, _NAMED, _NOT_BEGINNING)),
            List("after", descending=True, conditions=(*conditions, _WORDS, _NOT_NAMED)),
        ]
    if shape.words:
        conditions += (_WORDS,)
    if shape.order == "name":
        return [List("after", _COLUMNS.name_key, conditions=conditions)]
    return [List("after", descending=True, conditions=conditions)]


def has_conditions(shape: Shape) -> bool:
    """Whether the statement has to look for products one by one, and so has `reach`."""
    return any(part.conditions for part in _lists(shape))


def _in_order(part: List, columns: Columns) -> list[sa.ColumnElement[Any]]:
    order = [columns.id] if part.key is None else [columns.key, columns.id]
    return [column.desc() for column in order] if part.descending else order


def _after(part: List) -> Clause:
    """Behind the key where the page begins: one condition, as of two bounds an index takes one."""
    id = _bind(f"{part.name}_id", sa.Uuid)
    if part.key is None:
        return _COLUMNS.id < id if part.descending else _COLUMNS.id > id
    key: sa.ColumnElement[Any] = _bind(f"{part.name}_key", part.key.type)
    if part.first is not None:
        key = sa.func.greatest(key, part.first)
    here, last = sa.tuple_(part.key, _COLUMNS.id), sa.tuple_(key, id)
    return here < last if part.descending else here > last


def _find(part: List, gates: list[Clause]) -> sa.Select[Any]:
    """Up to `most` products of one list: id, key. Nothing is read unless all `gates` are true."""
    key = sa.literal_column("''", sa.Text) if part.key is None else part.key
    place = (_COLUMNS.state == _bind("state", sa.SmallInteger), _after(part), *part.until)
    ahead = sa.select(*_FILTERED, key.label("key")).where(*place)
    if not part.conditions:
        first = ahead.where(*gates).subquery()
        return sa.select(first.c.id, first.c.key).order_by(*_in_order(part, first.c)).limit(_MOST)
    in_order = _in_order(part, ahead.selected_columns)
    near = ahead.order_by(*in_order).limit(_REACH).subquery(f"{part.name}_near")
    hits = (
        sa.select(near.c.id, near.c.key)
        .where(*gates, *(condition.near(near.c) for condition in part.conditions))
        .order_by(*_in_order(part, near.c))
        .limit(_MOST)
        .cte(f"{part.name}_hits")
    )
    is_short = _count(hits) < _MOST
    is_far = _count(sa.select(_COLUMNS.id).where(*place).limit(_REACH).subquery()) == _REACH
    rest = (
        ahead.where(
            *gates, is_short, is_far, *(condition.all(_COLUMNS) for condition in part.conditions)
        )
        .with_only_columns(_COLUMNS.id, key.label("key"))
        .cte(f"{part.name}_all")
        .prefix_with("MATERIALIZED")
    )
    found = sa.union(
        sa.select(hits.c.id, hits.c.key),
        sa.select(sa.select(rest).order_by(*_in_order(part, rest.c)).limit(_MOST).subquery()),
    ).subquery()
    return sa.select(found.c.id, found.c.key).order_by(*_in_order(part, found.c)).limit(_MOST)


def _count(rows: sa.FromClause) -> sa.ScalarSelect[Any]:
    return sa.select(sa.func.count()).select_from(rows).scalar_subquery()


def _found(lists: list[List]) -> sa.Select[Any]:
    """The products of the page as rows of place (of the list), key and id."""
    found: list[sa.CTE] = []
    for place, part in enumerate(lists):
        gates: list[Clause] = [_count(before) < _MOST for before in found]
        if len(lists) > 1:
            # The page begins in the list at `place`, and goes on in those behind it.
            gates.append(_bind("place", sa.Integer) <= _number(place))
        found.append(_find(part, gates).cte(f"{part.name}_found"))
    rows = sa.union_all(
        *(
            sa.select(_number(place).label("place"), one.c.key, one.c.id)
            for place, one in enumerate(found)
        )
    ).subquery()
    return sa.select(rows)


@cache
def page(shape: Shape) -> Statement:
    """Rows of `store.PRODUCT`, each with its `place` and `key`.

    Parameters: `state`, `most`, `reach` (where anything is filtered), those of the filters, and the
    key after which the page begins: `after_id` and, unless the order is newest, `after_key`; for
    relevance `place`, and a key for each list: `begins_key`, `begins_id`, `named_id`, `after_id`.
    """
    lists = _lists(shape)
    found = _found(lists).subquery("found")
    if len(lists) == 1:
        order = _in_order(lists[0], found.c)
    else:
        id_by_name = sa.case((found.c.place == _number(0), found.c.id))
        order = [found.c.place, found.c.key, id_by_name, found.c.id.desc()]
    chosen = sa.select(found, sa.func.row_number().over(order_by=order).label("number"))
    top = chosen.order_by(*order).limit(_MOST).subquery("page")
    return Statement(
        PRODUCT.add_columns(top.c.place, top.c.key)
        .join(top, top.c.id == _COLUMNS.id)
        .order_by(top.c.number)
    )


def _words() -> Statement:
    """The words of the search `q`, with what is known of them: see `search_rules.terms`."""
    found = sa.func.unnest(sa.func.catalog.words(_bind("q"))).table_valued(
        sa.column("lexeme", sa.Text), sa.column("positions", ARRAY(sa.SmallInteger)), "weights"
    )
    lexeme = found.c.lexeme.collate("C")
    is_word = spellings.c.spelling == spellings.c.word
    begins = (spellings.c.spelling >= lexeme) & (
        spellings.c.spelling < lexeme.concat(_LAST_CHARACTER)
    )
    variations = sa.func.array_append(
        sa.func.catalog.rests(found.c.lexeme, type_=ARRAY(sa.Text)), found.c.lexeme
    )
    similar = sa.select(spellings.c.word).where(spellings.c.spelling == sa.any_(variations))
    return Statement(
        sa.select(
            found.c.lexeme,
            found.c.positions,
            sa.exists().where(is_word, spellings.c.spelling == lexeme).label("known"),
            sa.exists().where(is_word, begins).label("begins"),
            sa.func.array(similar.distinct().limit(_number(100)).scalar_subquery()).label(
                "similar"
            ),
        )
    )


WORDS = _words()
