"""Random requests made from the contract, nearly good ones and absurd ones, always the same."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.contract import Method

STRINGS = [
    "",
    "x",
    "me",
    "top",
    "EUR",
    "XXX",
    "*",
    "name,price",
    "name.first",
    "x@example.com",
    "long enough for a password",
    "v1",
    "newest",
    "a" * 300,
    "a" * 3000,
    "\u0000",
    "a\u0000b",
    "é\u0301" * 20,
    "\U0001f600",
    "\u202e\ufeff",
    "' OR 1=1 --",
    "'; --",
    "$1",
    "%s%n%x",
    "{}{{7*7}}",
    "../../../x",
    "%00",
    "a\r\nb: c",
    "&amp;<b>",
    "\\",
    "-1",
    "1e999",
    "2026-11-23T00:00:00Z",
    "9999999-01-01T00:00:00Z",
    "material=wool",
    "=",
    "wool & (",
    "lamp:*",
    "eyJhIjoxfQ",
]
NUMBERS: list[Any] = [0, 1, -1, 5, 1000, 1001, 2**31 - 1, 2**31, -(2**31), 2**63, 2**64, 1.5, 1e30]
ODD: list[Any] = [None, True, [], {}, [[]], {"x": 1}, ["x"] * 30, {"": ""}, "1", 7]


class Fuzz:
    """Makes requests. `ids` are those of things that there are."""

    def __init__(self, seed: int, ids: Sequence[str]) -> None:
        self._random = random.Random(seed)
        self._strings = STRINGS + list(ids) * 6

    def choice(self, options: Sequence[Any]) -> Any:
        """One of them."""
        return self._random.choice(options)

    def fields(self, method: Method) -> dict[str, Any]:
        """A request for a method as JSON."""
        kind = descriptor_pool.Default().FindMethodByName(method.name).input_type
        return self._message(kind, depth=0)

    def raw(self, method: Method) -> bytes:
        """A request for a method as bytes, maybe damaged."""
        kind = descriptor_pool.Default().FindMethodByName(method.name).input_type
        message: Message = GetMessageClass(kind)()
        try:
            json_format.ParseDict(self.fields(method), message, ignore_unknown_fields=True)
        except json_format.ParseError:
            message.Clear()
            for field in kind.fields:
                if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
                    setattr(message, field.name, self.choice(self._strings))
        raw = bytearray(message.SerializeToString())
        while raw and self._random.random() < 0.3:
            match self._random.randrange(3):
                case 0:
                    raw[self._random.randrange(len(raw))] = self._random.randrange(256)
                case 1:
                    del raw[self._random.randrange(len(raw)) :]
                case 2:
                    raw += self._random.randbytes(self._random.randrange(1, 9))
        return bytes(raw)

    def _message(self, kind: Descriptor, depth: int) -> dict[str, Any]:
        chance = self._random.choice([0.2, 0.6, 0.95])
        found = {
            field.name: self._value(field, depth)
            for field in kind.fields
            if self._random.random() < chance
        }
        if self._random.random() < 0.05:
            found[self.choice(["role", "nothing", "ID", "@type", ""])] = self.choice(ODD)
        return found

    def _value(self, field: FieldDescriptor, depth: int) -> Any:
        if self._random.random() < 0.07:
            return self.choice(ODD)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return {
                self.choice(self._strings): self.choice(self._strings)
                for _ in range(self._random.randrange(4))
            }
        if field.is_repeated:
            return [self._one(field, depth) for _ in range(self._random.randrange(4))]
        return self._one(field, depth)

    def _one(self, field: FieldDescriptor, depth: int) -> Any:
        if field.message_type is not None:
            if field.message_type.full_name.startswith("google.protobuf."):
                return self.choice(self._strings)
            return self._message(field.message_type, depth + 1) if depth < 4 else {}
        if field.enum_type is not None:
            names = [value.name for value in field.enum_type.values]
            return self.choice([*names, *names, "NOTHING", 99, -1])
        if field.type == FieldDescriptor.TYPE_STRING:
            return self.choice(self._strings)
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self._random.random() < 0.5
        return self.choice(NUMBERS)
