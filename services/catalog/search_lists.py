"""What lists of products are made of: orders that an index has, and conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY

from services.catalog.tables import products, stock, variants

# No text has a later character: what begins with `x` is between `x` and `x` with this behind it.
LAST_CHARACTER = sa.literal_column(r"U&'\+10FFFF'", sa.Text)

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
    key: str | None = None
    descending: bool = False
    first: sa.ColumnElement[Any] | None = None
    until: Callable[[Columns], list[Clause]] = lambda _: []
    conditions: tuple[Condition, ...] = ()


def bind(name: str, type_: Any = sa.Text) -> sa.BindParameter[Any]:
    """A parameter of the statement."""
    return sa.bindparam(name, type_=type_)


def _both(condition: Callable[[Columns], Clause]) -> Condition:
    return Condition(condition, condition)


def _match(vector: Any, words: str) -> Clause:
    matches: Clause = vector.op("@@", is_comparison=True)(sa.cast(bind(words), TSQUERY))
    return matches


def number(value: int) -> sa.ColumnElement[int]:
    """A number in the statement's text: as a parameter it would keep an index from being used."""
    return sa.literal_column(str(value), sa.Integer)


_BEGINNING = sa.func.left(sa.func.lower(bind("begins")), number(100), type_=sa.Text).collate("C")
_BUYABLE = (
    sa.select(variants.c.product_id)
    .select_from(variants.join(stock, stock.c.variant_id == variants.c.id))
    .where(stock.c.allow_backorder | (stock.c.on_hand > stock.c.reserved))
)


def _is_buyable(columns: Columns) -> Clause:
    """For one product at a time; as EXISTS, Postgres might compute it for all of them first."""
    one = _BUYABLE.where(variants.c.product_id == columns.id).limit(number(1))
    return one.scalar_subquery().is_not(None)


# The category that is asked for, and those below it.
CATEGORIES = bind("categories", ARRAY(sa.Uuid))
_CHEAPEST, _DEAREST = bind("min_price", sa.BigInteger), bind("max_price", sa.BigInteger)
_PRICE = _both(lambda columns: columns.price.between(_CHEAPEST, _DEAREST))
_CURRENCY = _both(lambda columns: columns.currency == bind("currency"))
_ATTRIBUTES = _both(
    lambda columns: columns.attributes.contains(bind("attributes", products.c.attributes.type))
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


def lists(shape: Shape) -> list[List]:
    """The lists that follow each other in the order of `shape`."""
    filters = [
        (shape.currency, _CURRENCY),
        (shape.attributes, _ATTRIBUTES),
        (shape.in_stock, _IN_STOCK),
    ]
    conditions = tuple(condition for wanted, condition in filters if wanted)
    if shape.order in ("price", "-price"):
        descending = shape.order == "-price"
        conditions += (_WORDS,) if shape.words else ()

        def until(columns: Columns) -> list[Clause]:
            end = columns.price >= _CHEAPEST if descending else columns.price <= _DEAREST
            return [end] if shape.price else []

        return [List("after", "price", descending, until=until, conditions=conditions)]
    if shape.price:
        conditions += (_PRICE,)
    if shape.order == "relevance":
        return [
            List(
                "begins",
                "name_key",
                first=_BEGINNING,
                until=lambda columns: [columns.name_key < _BEGINNING.concat(LAST_CHARACTER)],
                conditions=(*conditions, _NAMED),
            ),
            List("named", descending=True, conditions=(*conditions, _NAMED, _NOT_BEGINNING)),
            List("after", descending=True, conditions=(*conditions, _WORDS, _NOT_NAMED)),
        ]
    if shape.words:
        conditions += (_WORDS,)
    if shape.order == "name":
        return [List("after", "name_key", conditions=conditions)]
    return [List("after", descending=True, conditions=conditions)]
