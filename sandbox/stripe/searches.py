"""Search by Stripe's query language, as far as a shop needs it: clauses joined by AND.

https://docs.stripe.com/search. Stripe's own index may lag a minute behind, which is why it must not
be asked right after writing; this one does not lag.
"""

from __future__ import annotations

import re

from sandbox.stripe import errors, lists
from sandbox.stripe.account import Call
from sandbox.stripe.forms import Parameters
from sandbox.stripe.lists import Condition
from sandbox.stripe.store import Object

CLAUSE = re.compile(
    r"""\s*(?:metadata\[(?P<quote>["'])(?P<key>[^"']+)(?P=quote)\]|(?P<field>[a-z_]+))"""
    r"""\s*(?P<sign>:|>=|<=|>|<)\s*(?:(?P<mark>["'])(?P<text>[^"']*)(?P=mark)|(?P<number>\d{1,18}))"""
    r"""\s*(?P<and>AND\b|$)""",
    re.IGNORECASE,
)
METADATA_HAS = (
    "EXISTS (SELECT 1 FROM json_each(body, '$.metadata') AS pair "
    "WHERE pair.key = ? AND pair.value = ?)"
)
TEXTS = ("status", "currency")
NUMBERS = ("amount", "created")


def payment_intents(call: Call, parameters: Parameters) -> Object:
    conditions = [("kind = 'payment_intent'", []), *_conditions(parameters.required("query"))]
    size = lists.limit(parameters)
    page = parameters.text("page")
    parameters.finish()
    skipped = 0
    if page is not None:
        if not re.fullmatch(r"[0-9]{1,9}", page):
            raise errors.invalid("Invalid page", "page")
        skipped = int(page)
    found = lists.select(call, conditions, "DESC", skipped + size + 1)[skipped:]
    more = len(found) > size
    return {
        "object": "search_result",
        "data": found[:size],
        "has_more": more,
        "next_page": str(skipped + size) if more else None,
        "url": "/v1/payment_intents/search",
    }


def _conditions(query: str) -> list[Condition]:
    conditions: list[Condition] = []
    position, joined = 0, True
    while joined:
        match = CLAUSE.match(query, position)
        if match is None:
            message = "We were unable to parse your search query: the sandbox knows clauses like "
            message += "status:'succeeded' AND metadata['order_id']:'7' AND created>1700000000."
            raise errors.invalid(message, "query")
        conditions.append(_condition(match))
        position, joined = match.end(), bool(match["and"])
    return conditions


def _condition(match: re.Match[str]) -> Condition:
    key, field, sign = match["key"], match["field"], match["sign"]
    exact = sign == ":"
    if key is not None and exact and match["text"] is not None:
        return METADATA_HAS, [key, match["text"]]
    if field in TEXTS and exact and match["text"] is not None:
        return (f"body ->> '{field}' = ?", [match["text"]])
    if field in NUMBERS:
        value = match["number"] if match["number"] is not None else match["text"]
        if value.isdecimal():
            return (f"body ->> '{field}' {'=' if exact else sign} ?", [int(value)])
    raise errors.invalid(f"Field `{field or 'metadata'}` cannot be searched like that.", "query")
