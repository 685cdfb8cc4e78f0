"""Request validation: the protovalidate rules of the proto, and no NUL in any string.

Postgres text cannot hold U+0000, so it is refused at the door, in every string of every request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import protovalidate
from buf.validate import validate_pb2  # noqa: F401  registers the rules' option types
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from services.kit import errors
from services.kit.errors import FieldViolation


def prepare(kind: type[Message]) -> None:
    """Compile the rules of a message, lest the first call has to. Raises when they are wrong."""
    protovalidate.collect_violations(kind())


def check(request: Message, raw: bytes) -> None:
    """Raise INVALID_ARGUMENT for the fields that break a rule; `raw` is the request serialized."""
    violations = [
        FieldViolation(_path(violation.proto.field), _said(request, violation.proto))
        for violation in protovalidate.collect_violations(request)
    ]
    # A NUL in a string is a zero byte on the wire; most requests have none, and need no walk.
    if b"\0" in raw:
        violations += [
            FieldViolation(path, "must not hold the character U+0000")
            for path, text in strings(request)
            if "\0" in text
        ]
    if violations:
        raise errors.invalid(*violations)


def strings(message: Message, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every string in `message` with its path, map keys included."""
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key, item in value.items():
                if isinstance(key, str):
                    yield path, key
                yield from _one(item, f"{path}[{_subscript(key)}]")
        elif field.is_repeated:
            if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
                for index, item in enumerate(value):
                    yield from _one(item, f"{path}[{index}]")
        else:
            yield from _one(value, path)


def _one(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Message):
        yield from strings(value, f"{path}.")


def _said(request: Message, violation: Any) -> str:
    """What is wrong; of a oneof that is not set, which fields it has: its name says little."""
    *parents, last = violation.field.elements if violation.field else (None,)
    if last is None or last.field_number or violation.rule_id != "required":
        return str(violation.message)
    message: Any = request.DESCRIPTOR
    for element in parents:
        message = message.fields_by_name[element.field_name].message_type
        if message.GetOptions().map_entry:
            message = message.fields_by_name["value"].message_type
    names = [field.name for field in message.oneofs_by_name[last.field_name].fields]
    return f"needs one of {', '.join(names)}"


def _path(field: Any) -> str:
    """A `buf.validate.FieldPath` as `items[0].price` or `attributes["size"]`."""
    parts: list[str] = []
    for element in field.elements if field else ():
        text = element.field_name
        if element.subscript is not None:
            text += f"[{_subscript(element.subscript.value)}]"
        parts.append(text)
    return ".".join(parts)


def _subscript(key: str | int | bool) -> str:
    """An index or a map's key, as JSON has it."""
    return json.dumps(key, ensure_ascii=False)
