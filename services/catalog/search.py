"""Lists of products: what a request asks for, and the page that answers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from services.catalog import (
    category_store,
    search_costs,
    search_meetings,
    search_rules,
    search_spans,
    search_statements,
    search_words,
)
from services.catalog.search_costs import EVERY, Share, Way
from services.catalog.search_lists import List, Shape
from services.catalog.search_rules import LARGEST_PRICE
from services.catalog.search_statistics import NOTHING, Known, Shares
from services.kit import pages
from services.kit.db import Connection, Row
from shop.catalog.v1 import catalog_pb2

# How many products are looked at one by one: at least, and more for larger pages.
REACH = 4000
REACH_EACH = 40

FIRST_ID = UUID(int=0)
LAST_ID = UUID(int=2**128 - 1)
# The parts of the key of each order. That of relevance begins with the place of a list.
KEYS: dict[str, tuple[type, ...]] = {
    "newest": (UUID,),
    "price": (int, UUID),
    "-price": (int, UUID),
    "name": (str, UUID),
    "relevance": (int, str, UUID),
}
BEFORE_ALL: dict[str, list[Any]] = {
    "newest": [LAST_ID],
    "price": [-1, FIRST_ID],
    "-price": [LARGEST_PRICE, LAST_ID],
    "name": ["", FIRST_ID],
    "relevance": [0, "", FIRST_ID],
}


async def page(
    connection: Connection,
    request: catalog_pb2.ListProductsRequest,
    state: catalog_pb2.Product.State.ValueType,
    known: Known = NOTHING,
) -> tuple[Sequence[Row], str]:
    """The products of one page as rows with their `id`, and the next page's token.

    What is `known` of the catalogue chooses the way to find them, and has no part in the answer. A
    search without any letter or digit finds nothing. Raises INVALID_ARGUMENT for a token of
    another list.
    """
    order = request.order_by or ("relevance" if request.q else "newest")
    key = pages.start(request, *KEYS[order]) or BEFORE_ALL[order]
    asked = await _asked(connection, request, order)
    if asked is None:
        return [], ""
    bounds = asked.bounds
    if order == "price":
        key = max(key, [bounds.cheapest, FIRST_ID])
    elif order == "-price":
        key = min(key, [bounds.dearest, LAST_ID])
    elif order == "name":
        key = max(key, [bounds.first_name, FIRST_ID])
    values = asked.values | _after(order, key)
    shape = _ways(asked, pages.size(request), values, known)
    rows = await search_statements.page(shape).all(
        connection, state=state, most=pages.size(request) + 1, **values
    )
    return pages.cut(request, rows, lambda row: _key(order, row))


def _after(order: str, key: Sequence[Any]) -> dict[str, Any]:
    """The parameters that say where the page begins."""
    if order == "newest":
        return {"after_id": key[0]}
    if order != "relevance":
        return {"after_key": key[0], "after_id": key[1]}
    place, name, id = key
    return {
        "place": place,
        "begins_key": name,
        "begins_id": id,
        "named_id": id if place == 1 else LAST_ID,
        "after_id": id if place == 2 else LAST_ID,
    }


def _key(order: str, row: Row) -> tuple[str | int | UUID, ...]:
    key = (row["place"], row["key"], row["id"])
    return key[3 - len(KEYS[order]) :]


class _Asked(NamedTuple):
    """Which filters there are, their parameters, and where all matches are."""

    shape: Shape
    values: dict[str, Any]
    bounds: search_rules.Bounds
    cheapest: int
    dearest: int
    words: Sequence[Row]
    terms: Sequence[search_rules.Term]
    facets: Sequence[str]


async def _asked(
    connection: Connection,
    request: catalog_pb2.ListProductsRequest,
    order: str,
) -> _Asked | None:
    """What the request asks for. None when nothing can match it."""
    values: dict[str, Any] = {}
    priced = request.HasField("min_price") or request.HasField("max_price")
    dearest = request.max_price if request.HasField("max_price") else LARGEST_PRICE
    bounds = search_rules.Bounds(request.min_price, dearest)
    # Lists by price begin at one of the two.
    if priced and order != "price":
        values["min_price"] = request.min_price
    if priced and order != "-price":
        values["max_price"] = dearest
    facets = sorted(set(request.attributes))
    if facets:
        values["attributes"] = dict(text.split("=", 1) for text in facets)
        if len(values["attributes"]) < len(facets):
            return None
    if request.currency_code:
        values["currency"] = request.currency_code
        facets.append(f"={request.currency_code}")
    if request.category_id:
        start = UUID(request.category_id)
        values["categories"] = await category_store.descendants(connection, start)
        if not values["categories"]:
            return None
    words: Sequence[Row] = []
    terms: Sequence[search_rules.Term] = []
    if request.q:
        words = await search_words.WORDS.all(
            connection, q=request.q, bounded=order in ("price", "-price", "name")
        )
        terms = search_rules.terms(words)
        if not terms:
            return None
        found = search_rules.bounds(words, terms)
        bounds = search_rules.Bounds(
            max(bounds.cheapest, found.cheapest),
            min(bounds.dearest, found.dearest),
            found.first_name,
        )
        values["words"] = search_rules.tsquery(terms)
        if order == "relevance":
            values["name_words"] = search_rules.tsquery(terms, "A")
            values["begins"] = request.q.strip()
    shape = Shape(
        order,
        category="categories" in values,
        price=priced,
        currency="currency" in values,
        in_stock=request.in_stock,
        attributes="attributes" in values,
        words=bool(terms),
    )
    return _Asked(shape, values, bounds, request.min_price, dearest, words, terms, facets)


def _ways(asked: _Asked, size: int, values: dict[str, Any], known: Known) -> Shape:
    """The statement in whose ways the lists are looked through; their parameters join `values`."""
    if (asked.terms and not known.everywhere) or (asked.facets and not known.facets):
        known = NOTHING
    shape = _sought(asked, values, known)
    groups = _groups(asked)
    if len(groups) > 1:
        shape = shape._replace(terms=True)
        values["group_numbers"], values["group_terms"] = search_meetings.may_meet(groups)
    parts = search_statements.looked_through(shape)
    ways = {part.name: _way(part, asked, size, known) for part in parts}
    if ways.get("after") == EVERY:
        return _every(shape, values)
    spans = {
        name: search_spans.parts(values[f"{name}_id"], way.share, known.ids)
        for name, way in ways.items()
        if way.share
    }
    if spans.get("after", ...) is None:
        return _every(shape, values)
    for name, way in ways.items():
        span = spans.get(name)
        if span is None:
            values[f"{name}_reach"] = way.reach
            continue
        values[f"{name}_until"] = span[0].until
        for number, part in enumerate(span):
            values[f"{name}_since_{number}"] = part.since
            values[f"{name}_cells_{number}"] = part.cells
    return shape._replace(spans=tuple(name for name, span in spans.items() if span))


def _every(shape: Shape, values: dict[str, Any]) -> Shape:
    values.pop("name_sought", None)
    return shape._replace(every=True, name_sought=False)


def _sought(asked: _Asked, values: dict[str, Any], known: Known) -> Shape:
    """What the inverted index is asked for joins `values`: what it finds soon, if that is known."""
    terms, facets = _chosen(asked, known, known.everywhere)
    if terms:
        values["sought"] = search_rules.tsquery(terms)
    if facets:
        values["facets"] = facets
    name_terms: Sequence[search_rules.Term] = []
    if asked.shape.order == "relevance":
        name_terms, _ = _chosen(asked, known, known.names)
    if name_terms:
        values["name_sought"] = search_rules.tsquery(name_terms)
    return asked.shape._replace(
        sought=bool(terms), name_sought=bool(name_terms), faceted=bool(facets)
    )


def _chosen(
    asked: _Asked, known: Known, words: Shares
) -> tuple[Sequence[search_rules.Term], Sequence[str]]:
    if known.products < 1 or not (asked.terms or asked.facets):
        return asked.terms, asked.facets
    category = _category(asked, known)
    asks = search_costs.sought([*_shares(asked, known, words), *([category] if category else [])])
    of_facets = asks[len(asked.terms) :]
    return (
        [term for term, wanted in zip(asked.terms, asks, strict=False) if wanted],
        [facet for facet, wanted in zip(asked.facets, of_facets, strict=False) if wanted],
    )


def _groups(asked: _Asked) -> list[tuple[str, ...]]:
    """What has to meet in a product: any of each group. Beginnings may be anything."""
    categories = asked.values.get("categories", [])
    return [
        *(term.spellings for term in asked.terms if not term.unfinished),
        *((facet,) for facet in asked.facets),
        *([tuple(map(str, categories))] if categories else []),
    ]


def _way(part: List, asked: _Asked, size: int, known: Known) -> Way:
    """How a list is looked through."""
    shape = asked.shape
    default = REACH + REACH_EACH * size
    words = known.names if part.name == "named" else known.everywhere
    if known.products < 1:
        return Way(default)
    # Those whose names begin with a search have its words, mostly.
    shares = _shares(asked, known, None if part.name == "begins" else words)
    kept = 1.0
    if shape.price and part.key != "price" and part.name != "begins":
        kept = known.prices.between(asked.cheapest, asked.dearest)
    if not shares and kept == 1:
        return Way(default)
    step = search_costs.STEP_BY_ID if part.key is None else search_costs.STEP
    way = search_costs.way(
        shares,
        known.products,
        size + 1,
        search_costs.STEP_IN_CATEGORY if shape.category else step,
        default=default,
        by_id=part.key is None,
        category=_category(asked, known),
        kept=kept,
    )
    return way if part.name != "begins" else Way(min(way.reach, default))


def _shares(asked: _Asked, known: Known, words: Shares | None) -> list[Share]:
    """The shares of words, if any, and facets."""
    of_words = search_costs.of_words(asked.words, asked.terms, words) if words is not None else []
    return of_words + [search_costs.of_one([facet], known.facets) for facet in asked.facets]


def _category(asked: _Asked, known: Known) -> Share | None:
    if not asked.shape.category or not known.categories:
        return None
    return search_costs.of_one(map(str, asked.values["categories"]), known.categories)
