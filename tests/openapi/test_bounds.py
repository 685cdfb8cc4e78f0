"""The document's schemas and the services' rules refuse the same values."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Iterator
from typing import Any

import protovalidate
import pytest
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.documented import complaints, document, operations, resolved
from tools.contract import DESCRIPTORS, OURS, Field, load, rules

CONTRACT = load(DESCRIPTORS.read_bytes())
PUBLIC = {method.name: method for method in CONTRACT.methods if any(method.bindings())}
TEXTS = ["", "a", "A", "me", "top", "EUR", "eur", "GB", "pm_card", "a b", "-price", "x@y.example"]
TEXTS += ["https://x.example/", "ftp://x", "+1 (2) 34", "size=M", "=M", "a-b", "a--b", "A/b.c_d"]
TEXTS += [str(uuid.UUID(int=7)), "a" * 64, "a" * 65, "é" * 100]
MONEY = [
    {"currency_code": "EUR", "units": units, "nanos": nanos}
    for units, nanos in [("0", 0), ("1", 999_999_999), ("1", 10**9), ("-1", 0), ("0", -1)]
]
MONEY += [{"currency_code": "EUR", "units": str(units)} for units in (10**9, 10**12)]
MONEY += [{"currency_code": "EUR", "units": str(units + 1)} for units in (10**9, 10**12)]
MONEY += [{"units": "1"}, {"currency_code": "eur", "units": "1"}, {"currency_code": "EUR"}]
LINE = {"region_code": "DE", "address_lines": ["x"]}
POSTAL = [LINE, {}, {"region_code": "DE"}, LINE | {"region_code": "de"}, LINE | {"revision": 1}]
POSTAL += [LINE | {"address_lines": lines} for lines in (["x"] * 5, ["x"] * 6, [""], ["x" * 201])]
POSTAL += [LINE | {"recipients": names} for names in (["x"] * 3, ["x"] * 4, [""])]
POSTAL += [LINE | {name: "x" * n} for name in ("locality", "sublocality") for n in (100, 101)]
POSTAL += [LINE | {name: "x" * n} for name in ("postal_code", "sorting_code") for n in (35, 36)]
POSTAL += [LINE | {"organization": "x" * n} for n in (200, 201)]


def described() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Message, field and schema of all that requests are made of."""
    seen = set()
    for operation in operations().values():
        request = PUBLIC[operation.described["x-rpc"]].request
        for parameter in map(resolved, operation.described.get("parameters", ())):
            if parameter["in"] != "header" and (request, parameter["name"]) not in seen:
                seen.add((request, parameter["name"]))
                yield request, parameter["name"], parameter["schema"]
        body = operation.body()
        if body is not None and "$ref" in body[0]:
            for message, field, schema in _inside(request, body[0]):
                if (message, field) not in seen:
                    seen.add((message, field))
                    yield message, field, schema


def _inside(message: str, schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    entries = {entry.name: entry for entry in CONTRACT.messages[message].field}
    for name, inner in resolved(schema)["properties"].items():
        yield message, name, inner
        target = entries[name].type_name.lstrip(".")
        of_items = inner.get("items", inner)
        if target.startswith(OURS) and target in CONTRACT.messages and "$ref" in of_items:
            yield from _inside(target, of_items)


def probes(schema: dict[str, Any]) -> list[Any]:
    """Values just inside and just outside of what a schema takes, and some others."""
    reference = schema.get("$ref", "")
    if reference.endswith(("PriceInput", "AmountInput")):
        return MONEY
    if reference.endswith("PostalAddressInput"):
        return POSTAL
    schema = resolved(schema)
    if "enum" in schema:
        return [*schema["enum"], "NOPE", *_unspecified(schema["enum"])]
    kind = schema["type"]
    if kind == "integer":
        low, high = schema["minimum"], schema["maximum"]
        return [n for n in (low - 1, low, 0, 1, high, high + 1) if -(2**31) <= n < 2**31]
    if kind == "boolean":
        return [True, False]
    if kind == "array":
        items = [
            value for value in probes(schema["items"]) if not complaints(schema["items"], value)
        ]
        one = items[-1] if items else {}
        most = schema["maxItems"]
        lists: list[Any] = [[], [one], [one, one]]
        if not schema.get("uniqueItems"):
            lists += [[one] * most, [one] * (most + 1)]
        return lists + [[value] for value in probes(schema["items"])]
    if kind == "object" and "additionalProperties" in schema:
        most = schema["maxProperties"]
        pairs: list[Any] = [{f"k{n}": "v" for n in range(count)} for count in (0, most, most + 1)]
        values = [{"k": text} for text in ("", "v" * 200, "v" * 201)]
        return pairs + values + [{key: "v"} for key in ("K", "-k", "k" * 64, "k" * 65)]
    if kind == "string":
        most = schema.get("maxLength", 10)
        return [*TEXTS, "a" * most, "a" * (most + 1), "1" * most, "1" * (most + 1)]
    return []


def _unspecified(names: list[str]) -> list[str]:
    return [] if any(name.endswith("UNSPECIFIED") for name in names) else ["STATE_UNSPECIFIED"]


def entry_of(message: str, field: str) -> Field:
    """A field of the contract."""
    (entry,) = [each for each in CONTRACT.messages[message].field if each.name == field]
    return entry


# Masks are checked by what they name, times by their form.
CASES = [
    case
    for case in described()
    if not entry_of(case[0], case[1]).type_name.startswith(".google.protobuf.")
]


def _empty(name: str) -> Message:
    package = name.split(".")[1]
    for file in DESCRIPTORS.parent.joinpath("shop", package, "v1").glob("*_pb2.py"):
        importlib.import_module(f"shop.{package}.v1.{file.stem}")
    return GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))()


@pytest.mark.parametrize(
    ("message", "field", "schema"), CASES, ids=[f"{m.rpartition('.')[2]}.{f}" for m, f, _ in CASES]
)
def test_they_agree_on_every_field(message: str, field: str, schema: dict[str, Any]) -> None:
    for value in probes(schema):
        if value == "" and rules(entry_of(message, field)).ignore:
            continue  # as good as absent
        assert bool(complaints(schema, value)) == _refused(message, field, value), repr(value)[:99]


def _refused(message: str, field: str, value: Any) -> bool:
    try:
        request = json_format.ParseDict({field: value}, _empty(message))
    except json_format.ParseError:
        return True
    # Rules about the request as a whole name no field.
    paths = [violation.proto.field for violation in protovalidate.collect_violations(request)]
    return any(path is not None and path.elements[0].field_name == field for path in paths)


@pytest.mark.parametrize("field", ["start_time", "end_time"])
def test_they_agree_on_times(field: str) -> None:
    message = "shop.order.v1.ListOrdersRequest"
    (schema,) = (each for name, at, each in described() if (name, at) == (message, field))
    years = ["0001", "0970", "1969", "1970", "1979", "1980", "1999", "2026", "3970", "9999"]
    for year in (*years, "", "-970", "19700", "197"):
        value = f"{year}-06-07T08:09:10Z"
        assert bool(complaints(schema, value)) == _refused(message, field, value), value


@pytest.mark.parametrize(
    ("mask", "good"),
    [
        *((mask, True) for mask in ("", "*", "full_name", "full_name,phone")),
        *((mask, False) for mask in (")", "a(b)", "a b", "a,", ",a", "*,a", "a\0", "Name")),
    ],
)
def test_a_mask_names_fields(mask: str, good: bool) -> None:
    masks = [schema for _, name, schema in described() if name == "update_mask"]
    assert len(masks) > 5
    for schema in masks:
        assert bool(complaints(schema, mask)) != good


def _texts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All of a schema that is a text, also deep inside."""
    schema = resolved(schema)
    if schema.get("type") == "string":
        yield schema
    for inner in (*schema.get("properties", {}).values(), schema.get("items")):
        if inner:
            yield from _texts(inner)


def test_no_text_holds_nul() -> None:
    """What services refuse in every text, whatever it is for."""
    texts = [text for _, _, schema in CASES for text in _texts(schema)]
    assert len(texts) > 150
    for text in texts:
        if text.get("format") in ("email", "uri", "uuid"):
            continue  # those hold none, which this validator does not look at
        taken = [value for value in TEXTS if not complaints(text, value)]
        for value in [*taken, "a"]:
            for place in range(len(value) + 1):
                assert complaints(text, f"{value[:place]}\0{value[place:]}"), text


def test_no_field_is_without_a_name() -> None:
    """However deep: the edge would refuse it."""
    bodies = [each.body() for each in operations().values()]
    named = [resolved(body[0]) for body in bodies if body is not None and "$ref" in body[0]]
    inside = [resolved(schema) for _, _, schema in described()]
    inside += [resolved(schema["items"]) for _, _, schema in described() if "items" in schema]
    requests = [each for each in named + inside if "properties" in each]
    assert len(requests) > 40
    for schema in requests:
        assert "$: '' should be non-empty" in complaints(schema, {"": 1})


def test_enough_is_compared() -> None:
    bounded = [schema for _, _, schema in CASES if probes(schema)]
    assert len(bounded) > 150
    assert {"PriceInput", "AmountInput", "PostalAddressInput"} <= set(
        document()["components"]["schemas"]
    )
