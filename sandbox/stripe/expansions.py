"""`expand[]`: ids in an answer replaced by the objects they name.

https://docs.stripe.com/api/expanding_objects
"""

from __future__ import annotations

from sandbox.stripe import errors, identifiers
from sandbox.stripe.account import Call
from sandbox.stripe.store import Object

DEEPEST = 4
FIELDS = {
    "payment_intent": {"latest_charge", "payment_method", "customer", "review"},
    "charge": {"balance_transaction", "customer", "payment_intent", "refunds", "review"},
    "refund": {"balance_transaction", "charge", "payment_intent", "failure_balance_transaction"},
    "dispute": {"charge", "payment_intent"},
    "balance_transaction": {"source"},
    "payment_method": {"customer"},
}


def expand(call: Call, body: Object, paths: list[str]) -> Object:
    """`body` with paths such as `data.latest_charge` filled in. Raises 400 for no such path."""
    for path in paths:
        parts = path.split(".")
        if len(parts) > DEEPEST + (parts[0] == "data"):
            message = f"You cannot expand more than {DEEPEST} levels of a property: {path}"
            raise errors.invalid(message, "expand")
        _expand(call, body, parts)
    return body


def _expand(call: Call, body: Object, parts: list[str]) -> None:
    name, *rest = parts
    if body["object"] in ("list", "search_result"):
        if name == "data" and rest:
            for each in body["data"]:
                _expand(call, each, rest)
            return
        raise _refused(name)
    if name not in FIELDS.get(body["object"], ()):
        raise _refused(name)
    if name == "refunds":
        body.setdefault("refunds", _refunds(call, body))
    elif isinstance(body.get(name), str):
        kind = identifiers.kind_of(body[name])
        assert kind is not None
        body[name] = call.store.get(kind, body[name])
    value = body.get(name)
    if rest and isinstance(value, dict):
        _expand(call, value, rest)


def _refunds(call: Call, charge: Object) -> Object:
    refunds = call.store.of(charge["payment_intent"], "refund")
    own = [each for each in reversed(refunds) if each["charge"] == charge["id"]]
    url = f"/v1/charges/{charge['id']}/refunds"
    return {"object": "list", "data": own[:10], "has_more": len(own) > 10, "url": url}


def _refused(name: str) -> errors.ApiError:
    return errors.invalid(f"This property cannot be expanded ({name}).", "expand")
