"""Lists, newest first, in pages: `limit`, `starting_after`, `ending_before`, `created[gte]` …

https://docs.stripe.com/api/pagination
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sandbox.stripe import errors
from sandbox.stripe.account import Call
from sandbox.stripe.forms import Parameters
from sandbox.stripe.store import Object

COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
DEFAULT_LIMIT = 10
MOST = 100

Condition = tuple[str, list[Any]]


def page(
    call: Call,
    parameters: Parameters,
    kind: str,
    url: str,
    filters: Sequence[str] = (),
    extra: Sequence[Condition] = (),
) -> Object:
    """One page of the objects of a kind that pass the filters, which are fields of theirs."""
    conditions: list[Condition] = [("kind = ?", [kind]), *extra]
    conditions += [
        (f"body ->> '{name}' = ?", [value])
        for name in filters
        if (value := parameters.text(name)) is not None
    ]
    conditions += created(parameters)
    size = limit(parameters)
    after, before = parameters.text("starting_after"), parameters.text("ending_before")
    parameters.finish()
    if after is not None and before is not None:
        message = "You cannot parameterize starting_after and ending_before simultaneously."
        raise errors.invalid(message, "ending_before")
    order = "DESC"
    if after is not None:
        conditions.append(("place < ?", [_place(call, kind, after, "starting_after")]))
    if before is not None:
        order = "ASC"
        conditions.append(("place > ?", [_place(call, kind, before, "ending_before")]))
    found = select(call, conditions, order, size + 1)
    data = found[:size]
    if before is not None:
        data.reverse()
    return {"object": "list", "data": data, "has_more": len(found) > size, "url": url}


def select(call: Call, conditions: list[Condition], order: str, most: int) -> list[Object]:
    where = " AND ".join(f"({text})" for text, _ in conditions)
    values = [value for _, some in conditions for value in some]
    rows = call.store.rows(
        # Conditions are texts of ours; what a request says goes in as values.
        f"SELECT body FROM objects WHERE {where} ORDER BY place {order} LIMIT ?",  # noqa: S608
        *(*values, most),
    )
    return [json.loads(row["body"]) for row in rows]


def limit(parameters: Parameters) -> int:
    size = parameters.integer("limit")
    if size is not None and not 1 <= size <= MOST:
        message = f"This value must be between 1 and {MOST}."
        raise errors.invalid(message, "limit", "parameter_invalid_integer")
    return size or DEFAULT_LIMIT


def created(parameters: Parameters) -> list[Condition]:
    """`created=…` or `created[gte]=…`, in seconds since 1970."""
    if not parameters.has("created"):
        return []
    form = parameters.rest_of("created")
    if isinstance(form, str):
        exact = Parameters({"created": form}).integer("created")
        return [("created = ?", [exact])]
    bounds = Parameters(form, "created")
    conditions: list[Condition] = []
    for name, sign in COMPARISONS.items():
        bound = bounds.integer(name)
        if bound is not None:
            conditions.append((f"created {sign} ?", [bound]))
    bounds.finish()
    return conditions


def _place(call: Call, kind: str, id: str, param: str) -> int:
    row = call.store.row("SELECT place FROM objects WHERE id = ? AND kind = ?", id, kind)
    if row is None:
        raise errors.no_such(kind, id, param)
    return int(row["place"])
