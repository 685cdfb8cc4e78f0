"""Messages as JSON, as the edge's transcoder writes them.

ProtoJSON (https://protobuf.dev/programming-guides/json) with the names of fields as the contract
spells them, and with fields that hold their zero. What writes a kind of message is made once, of
its descriptor; protobuf's own `json_format` looks everything up for each field of each message, and
takes four times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

# What JSON has, too. 64 bits are more than the numbers of JavaScript hold, and become a string.
_AS_IT_IS = {
    FieldDescriptor.TYPE_STRING,
    FieldDescriptor.TYPE_BOOL,
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_UINT32,
}
_AS_STRING = {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64}

Convert = Callable[[Any], Any]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - all is UTC, and said so with a Z

_encode = msgspec.json.Encoder().encode


def writer(kind: type[Message]) -> Callable[[Message], bytes]:
    """What writes messages of this kind.

    Raises NotImplementedError if one may hold what no answer of ours has held so far.
    """
    convert = _message(kind.DESCRIPTOR)
    return lambda message: _encode(convert(message))


@cache
def _message(descriptor: Descriptor) -> Convert:
    if descriptor.full_name == Timestamp.DESCRIPTOR.full_name:
        return _time
    if descriptor.file.package == "google.protobuf":  # others that have a JSON of their own
        return json_format.MessageToDict
    fields = [_field(field) for field in descriptor.fields]

    def convert(message: Message) -> dict[str, Any]:
        return {
            name: getattr(message, name) if as_json is None else as_json(getattr(message, name))
            for name, may_be_absent, as_json in fields
            if not may_be_absent or message.HasField(name)
        }

    return convert


def _field(field: FieldDescriptor) -> tuple[str, bool, Convert | None]:
    """Its name, whether it may be absent, and how its value becomes JSON."""
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        of_key, of_value = (_field(kind.fields_by_name[name])[2] for name in ("key", "value"))
        if of_key or of_value:
            raise NotImplementedError(f"{field.full_name} is a map of more than words")
        return field.name, False, dict
    as_json = _value(field)
    if field.is_repeated:
        return field.name, False, _all(as_json)
    return field.name, field.has_presence, as_json


def _value(field: FieldDescriptor) -> Convert | None:
    if field.type in _AS_IT_IS:
        return None
    if field.type in _AS_STRING:
        return str
    if field.enum_type is not None:
        return _name(field.enum_type)
    if field.message_type is not None:
        return _message(field.message_type)
    raise NotImplementedError(f"{field.full_name} is of a type that no answer has had so far")


def _all(as_json: Convert | None) -> Convert:
    if as_json is None:
        return list

    def convert(values: Sequence[Any]) -> list[Any]:
        return [as_json(value) for value in values]

    return convert


def _name(enum: EnumDescriptor) -> Convert:
    names = {value.number: value.name for value in enum.values}
    return lambda number: names.get(number, number)


def _time(timestamp: Timestamp) -> str:
    """With as many digits behind the point as it needs: none, three or six; or nine."""
    if timestamp.nanos % 1000:
        return timestamp.ToJsonString()  # finer than Postgres' and Python's
    time = _EPOCH + timedelta(0, timestamp.seconds, timestamp.nanos // 1000)
    text = time.isoformat()
    return (text[:-3] if time.microsecond and text.endswith("000") else text) + "Z"
