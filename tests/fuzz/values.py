"""Values of single fields: such as keep the field's rules, and such as attackers and bugs send."""

from __future__ import annotations

import importlib
import random
import string
import uuid
from collections.abc import Sequence
from typing import Any

import rstr
from buf.validate import validate_pb2
from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor as Field

# As many times as `*` and `+` are repeated: with the 100 of rstr, nested ones take seconds.
importlib.import_module("rstr.xeger").STAR_PLUS_LIMIT = 12  # type: ignore[attr-defined]

Rules = validate_pb2.FieldRules

HOSTILE_STRINGS = [
    "",
    " ",
    "\0",
    "a\0b",
    "\x1b[31m\r\n\t\x7f",
    "' OR '1'='1",
    "'; DROP TABLE users; --",
    "\\'); select pg_sleep(9)--",
    "%s%s%n {0} {} ${x} {{7*7}} $(id) `id`",
    "../../../../etc/passwd",
    "..%2f..%2f",
    "\u202eneila\u202c \ufeff\u2028\u0000",
    "\U0001f9d1\u200d\U0001f680" * 20,
    "e\u0301\u0328" * 50,
    "ﷺ" * 30,
    "\u0130\u0131\u017f\u212a",
    "x" * 300,
    "é" * 2000,
    "-1",
    "1e999",
    "NaN",
    "null",
    "[" * 200,
    '{"a": {"b": []}}',
    "WyJhYmMiLDEsMl0",
    "00000000-0000-0000-0000-000000000000",
    "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    "{01234567-89ab-cdef-0123-456789abcdef}",
    "me",
    "*",
    "4111111111111111",
]
HOSTILE_NUMBERS = [0, 1, -1, 2, 999, 1000, 1001, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)]
LETTERS = string.ascii_letters + "    -_.'éß中🚲"
RANGES = {
    Field.CPPTYPE_INT32: (-(2**31), 2**31 - 1, "int32"),
    Field.CPPTYPE_UINT32: (0, 2**32 - 1, "uint32"),
    Field.CPPTYPE_INT64: (-(2**63), 2**63 - 1, "int64"),
    Field.CPPTYPE_UINT64: (0, 2**64 - 1, "uint64"),
}


def rules_of(field: Field) -> Rules:
    """The protovalidate rules of a field."""
    found: Rules = field.GetOptions().Extensions[validate_pb2.field]
    return found


def is_required(field: Field) -> bool:
    """Whether a request without the field is refused."""
    options = field.GetOptions()
    behaviours = options.Extensions[field_behavior_pb2.field_behavior]
    return rules_of(field).required or field_behavior_pb2.REQUIRED in behaviours


def is_map(field: Field) -> bool:
    """Whether a field is a map, which protobuf writes as a list of entries."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def keeping(luck: random.Random, field: Field, rules: Rules) -> Any:
    """A scalar that keeps these rules, now and then at the very edge of them."""
    match field.cpp_type:
        case Field.CPPTYPE_STRING if field.type == Field.TYPE_BYTES:
            return luck.randbytes(luck.choice([1, 16, 500]))
        case Field.CPPTYPE_STRING:
            return _string(luck, rules.string)
        case Field.CPPTYPE_BOOL:
            return luck.random() < 0.5
        case Field.CPPTYPE_ENUM:
            assert field.enum_type is not None
            numbers = {value.number for value in field.enum_type.values}
            return luck.choice(sorted(numbers - set(rules.enum.not_in)))
        case Field.CPPTYPE_FLOAT | Field.CPPTYPE_DOUBLE:
            return luck.random()
    return _number(luck, field, rules)


def hostile(luck: random.Random, field: Field) -> Any:
    """A scalar as nobody should send it."""
    match field.cpp_type:
        case Field.CPPTYPE_STRING if field.type == Field.TYPE_BYTES:
            return luck.randbytes(luck.choice([0, 1, 32, 500]))
        case Field.CPPTYPE_STRING:
            return luck.choice(HOSTILE_STRINGS)
        case Field.CPPTYPE_BOOL:
            return True
        case Field.CPPTYPE_ENUM:
            return luck.choice([0, 99, -1, 2**31 - 1])
        case Field.CPPTYPE_FLOAT | Field.CPPTYPE_DOUBLE:
            return luck.choice([0.0, -1.5, 1e300, float("nan"), float("inf")])
    low, high, _ = RANGES[field.cpp_type]
    return min(max(luck.choice(HOSTILE_NUMBERS), low), high)


def size(luck: random.Random, least: int, most: int) -> int:
    """How many of something: mostly few, now and then as many as may be."""
    if luck.random() < 0.05:
        return luck.choice([least, most])
    return luck.randint(least, max(least, min(most, least + 3)))


def _number(luck: random.Random, field: Field, rules: Rules) -> int:
    low, high, name = RANGES[field.cpp_type]
    bounds = getattr(rules, name)
    low = bounds.gte if bounds.HasField("gte") else low
    high = bounds.lte if bounds.HasField("lte") else high
    near = min(max(1, low), high)
    usual = luck.randint(near, min(high, near + 20))
    number = luck.choice([low, high]) if luck.random() < 0.1 else usual
    return near if number in bounds.not_in else number


def _string(luck: random.Random, rules: validate_pb2.StringRules) -> str:
    longest = rules.max_len or rules.max_bytes or 200
    choices: Sequence[str] = getattr(rules, "in")
    if choices:
        return luck.choice(choices)
    if rules.uuid:
        return str(uuid.UUID(int=luck.getrandbits(128), version=4))
    if rules.email:
        return new_email(luck)
    if rules.pattern:
        return _matching(luck, rules.pattern, longest)
    length = luck.choice([8, 20, 60])
    if luck.random() < 0.05:
        length = longest
    text = "".join(luck.choices(LETTERS, k=min(max(length, rules.min_len), longest)))
    return text.encode()[: rules.max_bytes or None].decode(errors="ignore")


def _matching(luck: random.Random, pattern: str, longest: int) -> str:
    for _ in range(20):
        found: str = rstr.Rstr(luck).xeger(pattern)
        if len(found) <= longest:
            return found
    return ""


def new_email(luck: random.Random) -> str:
    """An e-mail address that nobody has."""
    return f"{luck.getrandbits(64):016x}@example.com"
