"""Lists of products: what a request asks for, and the page that answers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from services.catalog import (
    category_store,
    search_costs,
    search_rules,
    search_statements,
    search_words,
)
from services.catalog.search_lists import List, Shape
from services.catalog.search_rules import LARGEST_PRICE
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
) -> tuple[Sequence[Row], str]:
    """The products of one page as rows with their `id`, and the next page's token.

    A search without any letter or digit finds nothing. Raises INVALID_ARGUMENT for a token of
    another list.
    """
    order = request.order_by or ("relevance" if request.q else "newest")
    key = pages.start(request, *KEYS[order]) or BEFORE_ALL[order]
    filters = await _filters(connection, request, order)
    if filters is None:
        return [], ""
    shape, values, bounds = filters
    if order == "price":
        key = max(key, [bounds.cheapest, FIRST_ID])
    elif order == "-price":
        key = min(key, [bounds.dearest, LAST_ID])
    elif order == "name":
        key = max(key, [bounds.first_name, FIRST_ID])
    rows = await search_statements.page(shape).all(
        connection, state=state, most=pages.size(request) + 1, **_after(order, key), **values
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


async def _filters(
    connection: Connection, request: catalog_pb2.ListProductsRequest, order: str
) -> tuple[Shape, dict[str, Any], search_rules.Bounds] | None:
    """Which filters there are, their parameters, and where all matches are.

    None when nothing can match them.
    """
    values: dict[str, Any] = {}
    priced = request.HasField("min_price") or request.HasField("max_price")
    dearest = request.max_price if request.HasField("max_price") else LARGEST_PRICE
    bounds = search_rules.Bounds(request.min_price, dearest)
    # Lists by price begin at one of the two.
    if priced and order != "price":
        values["min_price"] = request.min_price
    if priced and order != "-price":
        values["max_price"] = dearest
    if request.currency_code:
        values["currency"] = request.currency_code
    if request.attributes:
        wanted = set(request.attributes)
        values["attributes"] = dict(text.split("=", 1) for text in wanted)
        if len(values["attributes"]) < len(wanted):
            return None
    if request.category_id:
        start = UUID(request.category_id)
        values["categories"] = await category_store.descendants(connection, start)
        if not values["categories"]:
            return None
    words: Sequence[Row] = []
    searched: Sequence[search_rules.Term] = []
    if request.q:
        words = await search_words.WORDS.all(
            connection, q=request.q, bounded=order in ("price", "-price", "name")
        )
        searched = search_rules.terms(words)
        if not searched:
            return None
        values["words"] = search_rules.tsquery(searched)
        found = search_rules.bounds(words, searched)
        bounds = search_rules.Bounds(
            max(bounds.cheapest, found.cheapest),
            min(bounds.dearest, found.dearest),
            found.first_name,
        )
        if order == "relevance":
            values["name_words"] = search_rules.tsquery(searched, "A")
            values["begins"] = request.q.strip()
    shape = Shape(
        order,
        category="categories" in values,
        price=priced,
        currency="currency" in values,
        in_stock=request.in_stock,
        attributes="attributes" in values,
        words="words" in values,
    )
    for part in search_statements.looked_through(shape):
        values[f"{part.name}_reach"] = _reach(part, shape, request, words, searched)
    return shape, values, bounds


def _reach(
    part: List,
    shape: Shape,
    request: catalog_pb2.ListProductsRequest,
    words: Sequence[Row],
    searched: Sequence[search_rules.Term],
) -> int:
    """How many products of a list are looked at one by one, at most."""
    size = pages.size(request)
    default = REACH + REACH_EACH * size
    if part.name == "begins" or not words:
        return default
    scope = "names" if part.name == "named" else "everywhere"
    known = search_costs.shares(words, searched, scope)
    products = words[0]["products"]
    if not known or products < 1:
        return default
    step = search_costs.STEP_BY_ID if part.key is None else search_costs.STEP
    return search_costs.reach(
        known,
        products,
        size + 1,
        search_costs.STEP_IN_CATEGORY if shape.category else step,
        default=default,
        in_category=shape.category,
        other=shape.attributes or shape.currency or shape.price,
    )
