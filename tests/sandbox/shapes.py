"""Checks answers against the SDK's resource classes, which Stripe generates from its OpenAPI file.

Every field must be known to the class and of its type, to any depth; fields that the class does not
call optional must be there. Where the class lists values and then says `str`, the list is what is
checked: Stripe only means that it may grow.
"""

from __future__ import annotations

import importlib
import types
import typing
from typing import Any, Literal, Union, get_args, get_origin

import stripe
from stripe import StripeObject
from stripe._stripe_object import UntypedStripeObject

# What modules of the SDK call classes that they import for type checkers only.
RENAMED = {
    "DisputeResource": stripe.Dispute,
    "IssuingDisputeResource": stripe.issuing.Dispute,
    "CardResource": stripe.Card,
    "Authorization": stripe.issuing.Authorization,
    "Transaction": stripe.issuing.Transaction,
}


def problems(cls: type, value: Any, path: str = "") -> list[str]:
    """What is wrong with `value` as an object of `cls`; nothing, if it fits."""
    if not isinstance(value, dict):
        return [f"{path}: {value!r} is no {cls.__name__}"]
    fields = _fields(cls)
    found = [f"{path}.{name}: unknown to {cls.__name__}" for name in value.keys() - fields.keys()]
    for name, hint in fields.items():
        if name not in value:
            if not _optional(hint):
                found.append(f"{path}.{name}: missing")
        else:
            found += _check(hint, value[name], f"{path}.{name}")
    return found


def _check(hint: Any, value: Any, path: str) -> list[str]:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any or hint is type(value) or (hint is float and isinstance(value, int)):
        return []
    if origin in (Union, types.UnionType):
        return _check_union(inner, value, path)
    if origin is Literal:
        return [] if value in inner else [f"{path}: {value!r} is none of {inner}"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{path}: {value!r} is no list"]
        return [text for each in value for text in _check(inner[0], each, f"{path}[]")]
    if origin is stripe.ListObject:
        if not isinstance(value, dict) or value.get("object") != "list":
            return [f"{path}: no list object"]
        return [text for each in value["data"] for text in problems(inner[0], each, f"{path}[]")]
    if isinstance(origin or hint, type) and issubclass(origin or hint, UntypedStripeObject):
        return [] if isinstance(value, dict) else [f"{path}: {value!r} is no object"]
    if isinstance(hint, type) and issubclass(hint, StripeObject):
        return problems(hint, value, path)
    return [f"{path}: {value!r} is no {hint}"]


def _check_union(options: tuple[Any, ...], value: Any, path: str) -> list[str]:
    if any(get_origin(each) is Literal for each in options):
        options = tuple(each for each in options if each is not str)
    if isinstance(value, dict):
        kind = value.get("object")
        named = [each for each in options if kind and getattr(each, "OBJECT_NAME", None) == kind]
        options = tuple(named) or options
    attempts = [_check(each, value, path) for each in options]
    return min(attempts, key=len)


def _optional(hint: Any) -> bool:
    return hint is Any or type(None) in get_args(hint)


def _fields(cls: type) -> dict[str, Any]:
    """The class's own annotations, evaluated with the names that are in sight where it stands."""
    module = vars(importlib.import_module(cls.__module__))
    names = Names(_around(cls))
    return {
        name: typing.get_type_hints(_Holder(hint), module, names)["field"]
        for name, hint in cls.__annotations__.items()
        if not name.startswith("_") and name != "OBJECT_NAME"
    }


class _Holder:
    def __init__(self, hint: Any) -> None:
        self.__annotations__ = {"field": hint}


class Names(dict[str, Any]):
    """Names that a module imports for type checkers only: the SDK's classes, by their names."""

    def __missing__(self, name: str) -> Any:
        if name in RENAMED:
            return RENAMED[name]
        try:
            return getattr(stripe, name)
        except AttributeError:
            raise KeyError(name) from None


def _around(cls: type) -> dict[str, Any]:
    """The classes in whose bodies this one stands: `Address` inside `BillingDetails`."""
    around: dict[str, Any] = {}
    scope: Any = importlib.import_module(cls.__module__)
    for part in cls.__qualname__.split("."):
        scope = getattr(scope, part)
        around |= {name: each for name, each in vars(scope).items() if isinstance(each, type)}
    return around
