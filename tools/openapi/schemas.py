"""Messages as JSON Schema, the way Envoy reads and prints them.

Answers and requests differ: Envoy prints fields that have their default value, so answers require
them; requests state bounds, and take a 64-bit integer as a number too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from buf.validate import validate_pb2
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2

from tools.contract import Contract, Field, rules
from tools.openapi import bounds
from tools.openapi.bounds import Schema
from tools.openapi.words import prose, sentences, values

TIMESTAMP = "google.protobuf.Timestamp"
MASK = "google.protobuf.FieldMask"
EMPTY = "google.protobuf.Empty"
_INT64 = {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
_SCALARS: dict[Field.Type.ValueType, Schema] = {
    Field.TYPE_STRING: {"type": "string"},
    Field.TYPE_BOOL: {"type": "boolean"},
    Field.TYPE_INT32: {"type": "integer", "format": "int32"},
    Field.TYPE_INT64: _INT64,
}
_WELL_KNOWN: dict[str, Schema] = {
    TIMESTAMP: {"type": "string", "format": "date-time"},
    # The edge reads no others: it takes parentheses for a notation of its own.
    MASK: {"type": "string", "pattern": r"^(\*|[a-z][a-z0-9_]*(,[a-z][a-z0-9_]*)*)?$"},
}
# A rule that makes a kind of its own out of a message that is not ours.
_KINDS = {
    "money.price": "PriceInput",
    "money.total": "AmountInput",
    "money.positive": "PositiveAmountInput",
}
# Google's protos bring no comments with them.
_FOREIGN = {
    "google.type.Money": "An amount of money.",
    "google.type.Money.currency_code": "ISO 4217, such as `USD`.",
    "google.type.Money.units": "Whole units: 18 of 18.50 USD. A 64-bit integer, so a string.",
    "google.type.Money.nanos": (
        "Billionths of a unit: 500000000 of 18.50 USD. No finer than the currency."
    ),
    "google.type.PostalAddress": "A postal address.",
    "google.type.PostalAddress.revision": "Always 0.",
    "google.type.PostalAddress.region_code": "Country, ISO 3166-1 alpha-2, such as `DE`.",
    "google.type.PostalAddress.language_code": "Language of the address, BCP 47.",
    "google.type.PostalAddress.postal_code": "Postal code.",
    "google.type.PostalAddress.sorting_code": "Sorting code, where a country has them.",
    "google.type.PostalAddress.administrative_area": "State, province or canton.",
    "google.type.PostalAddress.locality": "City or town.",
    "google.type.PostalAddress.sublocality": "Part of the city.",
    "google.type.PostalAddress.address_lines": "Street, number and the like.",
    "google.type.PostalAddress.recipients": "Who receives it.",
    "google.type.PostalAddress.organization": "Company.",
}


class Schemas:
    """Builds schemas, and collects those that have a name as components."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._made: dict[str, tuple[str, bool]] = {}
        self._in_answers = set(self._below(m.response for m in contract.methods))
        self.components: dict[str, Schema] = {}

    def answer(self, message: str) -> Schema:
        """Reference to what a method answers."""
        return self._message(message, request=False)

    def body(self, message: str, without: Collection[str]) -> Schema:
        """Reference to a request's body: all fields but those that stand in the path."""
        return self._message(message, request=True, without=without)

    def parameter(self, entry: Field) -> Schema:
        """A field as it is written in a path or query."""
        schema = self._field(entry, request=True)
        if schema.get("format") == "int64":
            schema = {k: v for k, v in schema.items() if k != "pattern"} | {"type": "integer"}
        return schema

    def comment(self, name: str) -> str:
        """What the contract says of a message, field or enum, or we of other people's."""
        text = self._contract.comments.get(name)
        return prose(text) if text else _FOREIGN.get(name, "")

    def _below(self, messages: Iterator[str]) -> Iterator[str]:
        """The messages, and all that are in them."""
        pending, seen = list(messages), set[str]()
        while pending:
            name = pending.pop()
            if name not in seen and name in self._contract.messages:
                seen.add(name)
                yield name
                pending += [e.type_name.lstrip(".") for e in self._contract.messages[name].field]

    def _message(self, name: str, *, request: bool, without: Collection[str] = ()) -> Schema:
        if name == EMPTY:
            return self._component("Empty", name, {"type": "object", "maxProperties": 0}, request)
        component = _short(name)
        if request and name in self._in_answers:
            component += "Input"
        if component not in self._made:
            self._made[component] = (name, request)  # first: messages may hold themselves
            self.components[component] = self._object(name, request=request, without=without)
        return self._component(component, name, None, request)

    def _component(self, component: str, name: str, schema: Schema | None, request: bool) -> Schema:
        """Reference to a component. Two things of one name would overwrite each other."""
        made = self._made.setdefault(component, (name, request))
        if made != (name, request):
            raise SystemExit(f"{name} and {made[0]} would both be called {component}")
        if schema is not None and self.components.setdefault(component, schema) != schema:
            raise SystemExit(f"two requests mean different things by {component}")
        return {"$ref": f"#/components/schemas/{component}"}

    def _object(self, name: str, *, request: bool, without: Collection[str] = ()) -> Schema:
        message = self._contract.messages[name]
        fields = [entry for entry in message.field if entry.name not in without]
        needed = [e.name for e in fields if (is_required(e) if request else _is_printed(e))]
        schema: Schema = {"type": "object", "description": self.comment(name)}
        if not schema["description"] or request:
            del schema["description"]
        if needed:
            schema["required"] = needed
        schema["properties"] = {
            entry.name: self._described(name, entry, request=request) for entry in fields
        }
        schema |= _choices(message, fields, request=request)
        if request:
            # The edge passes over fields that it does not know, but not over one without a name.
            schema["propertyNames"] = {"minLength": 1}
            keywords, _ = bounds.of_request(message.options.Extensions[validate_pb2.message])
            schema |= keywords
        return schema

    def _described(self, message: str, entry: Field, *, request: bool) -> Schema:
        schema = self._field(entry, request=request)
        said = self.comment(f"{message}.{entry.name}")
        if request:
            said = sentences(said, *(_rule(rule.message) for rule in rules(entry).cel))
        if field_behavior_pb2.INPUT_ONLY in behaviors(entry):
            schema["writeOnly"] = True
            if "password" in entry.name:
                schema["format"] = "password"
        return schema | ({"description": said} if said else {})

    def _field(self, entry: Field, *, request: bool) -> Schema:
        stated = rules(entry) if request else validate_pb2.FieldRules()
        if entry.label != Field.LABEL_REPEATED:
            return self._value(entry, stated, request=request)
        if pair := self._map_entry(entry):
            keys = bounds.of_value(pair.field[0], stated.map.keys)
            return {
                "type": "object",
                **bounds.of_map(stated),
                **({"propertyNames": keys} if keys else {}),
                "additionalProperties": self._value(
                    pair.field[1], stated.map.values, request=request
                ),
            }
        items = self._value(entry, stated.repeated.items, request=request)
        return {"type": "array", **bounds.of_list(stated), "items": items}

    def _map_entry(self, entry: Field) -> descriptor_pb2.DescriptorProto | None:
        owner, _, name = entry.type_name.lstrip(".").rpartition(".")
        for nested in getattr(self._contract.messages.get(owner), "nested_type", ()):
            if nested.name == name and nested.options.map_entry:
                found: descriptor_pb2.DescriptorProto = nested
                return found
        return None

    def _value(self, entry: Field, stated: validate_pb2.FieldRules, *, request: bool) -> Schema:
        name = entry.type_name.lstrip(".")
        if entry.type == Field.TYPE_ENUM:
            return self._enum(name, bounds.left_out(stated))
        if entry.type == Field.TYPE_MESSAGE:
            if name in _WELL_KNOWN:
                return _WELL_KNOWN[name] | bounds.of_time(stated)
            return (
                self._theirs(name, stated) if stated.cel else self._message(name, request=request)
            )
        schema = dict(_SCALARS[entry.type])
        if request and entry.type == Field.TYPE_INT64:
            schema["type"] = ["string", "integer"]
        schema |= bounds.of_value(entry, stated)
        if request and entry.type == Field.TYPE_STRING:
            return bounds.ANY_TEXT | schema if not bounds.SAYS_WHICH & schema.keys() else schema
        return schema

    def _theirs(self, name: str, stated: validate_pb2.FieldRules) -> Schema:
        """A message that is not ours, with what the field's rules ask of it."""
        component = _KINDS.get(stated.cel[-1].id, f"{_short(name)}Input")
        schema = bounds.tighten(self._object(name, request=True), list(stated.cel))
        return self._component(component, name, schema, request=True)

    def _enum(self, name: str, without: Collection[int]) -> Schema:
        """One component for all answers and those requests that take every value."""
        enum = self._contract.enums[name]
        if without:
            names = [value.name for value in enum.value if value.number not in without]
            return {"type": "string", "enum": names}
        said = {v.name: self.comment(f"{name}.{v.name}") for v in enum.value}
        schema = {
            "type": "string",
            "description": f"{self.comment(name)}\n\n{values(said)}",
            "enum": list(said),
        }
        return self._component(_short(name), name, schema, request=False)


def behaviors(entry: Field) -> set[int]:
    """The field behaviors (AIP-203) of a field."""
    return set(entry.options.Extensions[field_behavior_pb2.field_behavior])


def is_required(entry: Field) -> bool:
    """Whether a request has to have the field."""
    return field_behavior_pb2.REQUIRED in behaviors(entry)


def _is_printed(entry: Field) -> bool:
    """Whether an answer always has it: what has presence is left out when it is absent."""
    if entry.label == Field.LABEL_REPEATED:
        return True
    return entry.type != Field.TYPE_MESSAGE and not entry.HasField("oneof_index")


def _choices(
    message: descriptor_pb2.DescriptorProto, fields: list[Field], *, request: bool
) -> Schema:
    """Which fields exclude each other. Answers always have one, requests where a rule says so."""
    for index, oneof in enumerate(message.oneof_decl):
        names = [
            entry.name
            for entry in fields
            if entry.HasField("oneof_index")
            and entry.oneof_index == index
            and not entry.proto3_optional
        ]
        required = oneof.options.Extensions[validate_pb2.oneof].required
        if names and (required or not request):
            return {"oneOf": [{"title": name, "required": [name]} for name in names]}
    return {}


def _rule(message: str) -> str:
    return f"It {message}." if message.startswith(("must", "needs")) else f"Bounds: {message}."


def _short(name: str) -> str:
    """`OrderTracking` for `shop.order.v1.Order.Tracking`."""
    return "".join(part for part in name.split(".") if re.match("[A-Z]", part))
