"""The rules of protovalidate as keywords of JSON Schema."""

from __future__ import annotations

import re
from typing import Any

from buf.validate import validate_pb2

from tools.contract import Field

Schema = dict[str, Any]

# What the CEL rules of the contract ask of other people's messages; `_of_one_id` in the tests'
# conventions holds the copies of a rule together, and an unknown one stops the generator.
_CURRENCY: Schema = {"pattern": "^[A-Z]{3}$"}
_NANOS: Schema = {"minimum": 0, "maximum": 999_999_999}
_LINE: Schema = {"items": {"minLength": 1, "maxLength": 200}}
_PART: Schema = {"maxLength": 100}
_CODE: Schema = {"maxLength": 35}
_INSIDE: dict[str, dict[str, Schema]] = {
    "money.price": {
        "currency_code": _CURRENCY,
        "units": {"minimum": 0, "maximum": 10**9, "pattern": "^(1000000000|[0-9]{1,9})$"},
        "nanos": _NANOS,
    },
    "money.total": {
        "currency_code": _CURRENCY,
        "units": {"minimum": 0, "maximum": 10**12, "pattern": "^(1000000000000|[0-9]{1,12})$"},
        "nanos": _NANOS,
    },
    "money.positive": {},
    "postal_address.required": {
        "region_code": {"pattern": "^[A-Z]{2}$"},
        "address_lines": {"minItems": 1, "maxItems": 5},
    },
    "postal_address.lines": {
        "address_lines": _LINE,
        "recipients": {"maxItems": 3, **_LINE},
        "organization": {"maxLength": 200},
    },
    "postal_address.parts": {
        "revision": {"enum": [0]},
        **dict.fromkeys(("locality", "sublocality", "administrative_area"), _PART),
        **dict.fromkeys(("postal_code", "sorting_code", "language_code"), _CODE),
    },
    "http_body.size": {},  # the edge takes no longer ones
}
# ... and of the message as a whole.
_TOGETHER: dict[str, Schema] = {
    "money.positive": {
        "anyOf": [
            {"required": ["units"], "properties": {"units": {"minimum": 1, "pattern": "[1-9]"}}},
            {"required": ["nanos"], "properties": {"nanos": {"minimum": 1}}},
        ]
    }
}
_NEEDED = {
    "money.price": ["currency_code"],
    "money.total": ["currency_code"],
    "postal_address.required": ["region_code", "address_lines"],
}
# Rules over a whole request. Those without keywords are said in words alone.
_WHOLE: dict[str, Schema] = {
    "list_products.relevance": {},
    "create_product.variants": {
        "oneOf": [
            {"title": "Without variants", "required": ["price"], "not": {"required": ["variants"]}},
            {
                "title": "With variants",
                "required": ["variants"],
                "properties": {"variants": {"minItems": 1}},
                "not": {
                    "anyOf": [
                        {"required": [name]}
                        for name in ("price", "compare_at_price", "sku", "stock")
                    ]
                },
            },
        ]
    },
}
_STRING = {"min_len": "minLength", "max_len": "maxLength", "max_bytes": "maxLength"}
_FORMATS = {"email": "email", "uuid": "uuid", "uri": "uri"}
_NUMBER = {"gte": "minimum", "lte": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
_REPEATED = {"min_items": "minItems", "max_items": "maxItems", "unique": "uniqueItems"}
_MAP = {"min_pairs": "minProperties", "max_pairs": "maxProperties"}
_TIMES = ("timestamp", "duration")
# No text of a request may hold U+0000 (`services/kit/validation.py`). Those that have to look like
# something hold none anyway.
ANY_TEXT: Schema = {"pattern": r"^[^\u0000]*$"}
SAYS_WHICH = {"pattern", "format", "enum"}
# From 1970 to 9999: times that requests may name, in the words of RFC 3339.
_SECONDS = {"gte": 0, "lte": 253_402_300_799}
_YEARS = "^(19[7-9][0-9]|[2-9][0-9]{3})-"
# Said elsewhere: in `required`, by the enum's names, or by the keywords of what is inside.
_SILENT = {"required", "ignore", "cel", "defined_only", "items", "keys", "values"}


def of_value(entry: Field, rules: validate_pb2.FieldRules) -> Schema:
    """Keywords for a single value of a field (or an item of a repeated one)."""
    kind = rules.WhichOneof("type")
    if kind is None or kind in ("repeated", "map", *_TIMES):
        return {}
    found: Schema = {}
    for rule, value in getattr(rules, kind).ListFields():
        match rule.name:
            case name if name in _SILENT or kind == "enum":
                continue
            case "pattern":
                found["pattern"] = _ecma(value)
            case "in":
                found["enum"] = list(value)
            case "not_in":
                found["not"] = {"enum": list(value)}
            case name if name in _FORMATS:
                found["format"] = _FORMATS[name]
            case name:
                found[(_STRING | _NUMBER)[name]] = value
    return found


def of_time(rules: validate_pb2.FieldRules) -> Schema:
    """Keywords for a moment; nothing where its field has no rule."""
    if rules.WhichOneof("type") != "timestamp":
        return {}
    said = {rule.name: value.seconds for rule, value in rules.timestamp.ListFields()}
    if said != _SECONDS:
        raise SystemExit(f"no pattern is known for these times: {rules.timestamp}")
    return {"pattern": _YEARS}


def of_list(rules: validate_pb2.FieldRules) -> Schema:
    """Keywords for a repeated field as a whole."""
    return {
        _REPEATED[rule.name]: value
        for rule, value in rules.repeated.ListFields()
        if rule.name not in _SILENT
    }


def of_map(rules: validate_pb2.FieldRules) -> Schema:
    """Keywords for a map as a whole."""
    return {
        _MAP[rule.name]: value for rule, value in rules.map.ListFields() if rule.name not in _SILENT
    }


def left_out(rules: validate_pb2.FieldRules) -> set[int]:
    """Numbers of an enum that the field does not take."""
    return set(rules.enum.not_in)


def tighten(schema: Schema, cel: list[validate_pb2.Rule]) -> Schema:
    """The schema of somebody else's message with what the rules of one field ask of it."""
    for rule in cel:
        for name, keywords in _INSIDE[rule.id].items():
            inner = schema["properties"][name]
            for keyword, value in keywords.items():
                if keyword == "items":
                    inner["items"] |= value
                else:
                    inner[keyword] = value
        if rule.id in _NEEDED:
            schema["required"] = _NEEDED[rule.id]
        schema |= _TOGETHER.get(rule.id, {})
    return schema


def of_request(message: validate_pb2.MessageRules) -> tuple[Schema, list[str]]:
    """Keywords for a request as a whole, and sentences about it."""
    keywords: Schema = {}
    for rule in message.cel:
        keywords |= _WHOLE[rule.id]
    return keywords, [rule.message for rule in message.cel]


def _ecma(pattern: str) -> str:
    """A pattern in the dialect of JSON Schema, which has no flags inside; it never takes U+0000."""
    return re.sub(r"\(\?s:\.", r"(?:[^]", pattern).replace("[^", r"[^\u0000")
