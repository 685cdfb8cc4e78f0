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
    # Whether the inverted index is asked for words, those of names, and facets.
    sought: bool = False
    name_sought: bool = False
    faceted: bool = False
    # Whether there are terms that may have never met.
    terms: bool = False
    # The lists of which spans are asked for; or all matches at once, whatever list they are in.
    spans: tuple[str, ...] = ()
    every: bool = False


class Condition(NamedTuple):
    """What products have to fulfil, as it is asked of one product, of all, and of the matches of
    other conditions (`few`) where that is yet another way.
    """

    near: Callable[[Columns], Clause]
    all: Callable[[Columns], Clause]
    few: Callable[[Columns], Clause] | None = None

    def of_few(self, columns: Columns) -> Clause:
        """As it is asked where an index finds few products."""
        return (self.few or self.all)(columns)


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


def _unsought(clause: Clause) -> Clause:
    """A condition that matches are asked for, and no index."""
    return clause.is_(sa.true())


def match(vector: Any, words: str) -> Clause:
    """Whether all `words` are in the vector."""
    matches: Clause = vector.op("@@", is_comparison=True)(sa.cast(bind(words), TSQUERY))
    return matches


def number(value: int) -> sa.ColumnElement[int]:
    """A number in the statement's text: as a parameter it would keep an index from being used."""
    return sa.literal_column(str(value), sa.Integer)


BEGINNING = sa.func.left(sa.func.lower(bind("begins")), number(100), type_=sa.Text).collate("C")
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


def _facet(near: Callable[[Columns], Clause]) -> Condition:
    return Condition(near, lambda columns: _unsought(near(columns)))


_CURRENCY = _facet(lambda columns: columns.currency == bind("currency"))
_ATTRIBUTES = _facet(
    lambda columns: columns.attributes.contains(bind("attributes", products.c.attributes.type))
)


def facets(shape: Shape) -> list[Clause]:
    """Attributes as `key=value`, and the currency as `=USD`, as the index has them."""
    if not shape.faceted:
        return []
    of_product = sa.func.catalog.facets(
        products.c.attributes, products.c.currency, type_=ARRAY(sa.Text)
    )
    return [of_product.contains(bind("facets", ARRAY(sa.Text)))]


_IN_STOCK = Condition(_is_buyable, lambda columns: columns.id.in_(_BUYABLE), _is_buyable)


def _words(words: str, sought: str, indexed: Callable[[Columns], Any]) -> Condition:
    """The index is asked for those of the words that it finds soon: `sought`, if there are any."""

    def of_all(columns: Columns) -> Clause:
        all_words = _unsought(match(columns.search, words))
        return match(indexed(columns), sought) & all_words if sought else all_words

    return Condition(lambda columns: match(columns.search, words), of_all)


def _everywhere(shape: Shape) -> Condition:
    return _words("words", "sought" if shape.sought else "", lambda columns: columns.search)


def _named(shape: Shape) -> Condition:
    """The index has the words of names once more, as it does not know where a word stands."""
    return _words(
        "name_words",
        "name_sought" if shape.name_sought else "",
        lambda columns: sa.func.catalog.words(columns.name),
    )


_NOT_NAMED = _both(lambda columns: ~match(columns.search, "name_words"))
_NOT_BEGINNING = _both(lambda columns: ~sa.func.starts_with(columns.name_key, BEGINNING))


def conditions_of_all(shape: Shape) -> list[Clause]:
    """What all products fulfil that are on any of the lists of relevance."""
    filters = [*_filters(shape), (shape.price, _PRICE), (shape.words, _everywhere(shape))]
    return [condition.of_few(products.c) for wanted, condition in filters if wanted]


def _filters(shape: Shape) -> list[tuple[bool, Condition]]:
    return [
        (shape.currency, _CURRENCY),
        (shape.attributes, _ATTRIBUTES),
        (shape.in_stock, _IN_STOCK),
    ]


def lists(shape: Shape) -> list[List]:
    """The lists that follow each other in the order of `shape`."""
    conditions = tuple(condition for wanted, condition in _filters(shape) if wanted)
    if shape.order in ("price", "-price"):
        descending = shape.order == "-price"
        conditions += (_everywhere(shape),) if shape.words else ()

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
                first=BEGINNING,
                until=lambda columns: [columns.name_key < BEGINNING.concat(LAST_CHARACTER)],
                conditions=(*conditions, _named(shape)),
            ),
            List("named", descending=True, conditions=(*conditions, _named(shape), _NOT_BEGINNING)),
            List(
                "after", descending=True, conditions=(*conditions, _everywhere(shape), _NOT_NAMED)
            ),
        ]
    if shape.words:
        conditions += (_everywhere(shape),)
    if shape.order == "name":
        return [List("after", "name_key", conditions=conditions)]
    return [List("after", descending=True, conditions=conditions)]
