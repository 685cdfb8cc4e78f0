"""Random requests, made from descriptors.

Most keep every rule of the contract, so that they come through validation and meet handlers and
SQL; the rest are what attackers and broken programs send.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from typing import Any

import protovalidate
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from sandbox.stripe.cards import CARDS
from tests.fuzz.memory import Memory, Thing
from tests.fuzz.values import (
    Rules,
    hostile,
    is_map,
    is_required,
    keeping,
    new_email,
    rules_of,
    size,
)
from tests.visitors import PASSWORD

DEEPEST = 4
# How often a request keeps all rules, a field that need not be there is, a string means something.
VALID, PRESENT, MEANT = 0.7, 0.5, 0.95
TRIES = 5
# A free text of this length or more can say whose it is.
TELLTALE = 20


class Requests:
    """Makes requests for one story. The same luck makes the same ones."""

    def __init__(self, luck: random.Random, memory: Memory) -> None:
        self._luck = luck
        self._memory = memory
        self._who = ""
        self._mark = ""
        self._hostility = 0.0
        self._method: MethodDescriptor | None = None
        self._subject: Thing | None = None

    def make(self, method: MethodDescriptor, who: str, mark: str = "") -> bytes:
        """A request of the method by somebody, whose free texts hold their mark."""
        self._method, self._who, self._mark = method, who, mark
        kind = self._luck.random()
        if kind < VALID:
            return self.valid(method).SerializeToString()
        self._hostility = 0.05 if kind < 0.85 else 0.2
        raw = self._message(method).SerializeToString()
        return self._damaged(raw) if kind > 0.97 else raw

    def valid(self, method: MethodDescriptor) -> Message:
        """A request that keeps all rules, unless luck is very bad."""
        self._method, self._hostility = method, 0.0
        for _ in range(TRIES):
            message = self._message(method)
            if not protovalidate.collect_violations(message):
                break
        made: Message = message
        return made

    def metadata(self) -> dict[str, str]:
        """Headers that clients may send: mostly none."""
        kind = self._luck.random()
        if kind < 0.1 and (tokens := self._memory.tokens[self._who, "cart_token"]):
            return {"x-cart-token": self._luck.choice(tokens)}
        if kind < 0.8:
            return {}
        length = self._luck.choice([0, 1, 9, 9, 9, 9, 255, 400])
        text = "".join(self._luck.choices(string.printable[:94] + " ", k=length)).strip()
        names = ["x-request-id", "x-user-id", "x-cart-token"]
        return {"idempotency-key" if kind < 0.95 else self._luck.choice(names): text}

    def _damaged(self, raw: bytes) -> bytes:
        """Bytes that need not be a message: cut off, changed, or from nowhere."""
        kind = self._luck.randrange(3)
        if kind == 0 or not raw:
            return self._luck.randbytes(self._luck.randrange(1, 200))
        place = self._luck.randrange(len(raw))
        if kind == 1:
            return raw[:place]
        return raw[:place] + self._luck.randbytes(1) + raw[place + 1 :]

    def _message(self, method: MethodDescriptor) -> Any:
        self._subject = self._memory.subject(self._luck, method, self._who)
        message = GetMessageClass(method.input_type)()
        self._fill(message, 0)
        return message

    def _fill(self, message: Any, depth: int) -> None:
        """Set fields; of a oneof, one at most."""
        chosen = {
            group.name: self._luck.choice(group.fields).name
            for group in message.DESCRIPTOR.oneofs
            if len(group.fields) > 1
        }
        for field in message.DESCRIPTOR.fields:
            group = field.containing_oneof
            if group is not None and group.name in chosen:
                if chosen[group.name] == field.name:
                    self._set(message, field, depth)
            elif is_required(field) or self._luck.random() < PRESENT:
                self._set(message, field, depth)

    def _set(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        rules = rules_of(field)
        value = getattr(message, field.name)
        if is_map(field):
            assert field.message_type is not None
            key, item = field.message_type.fields
            for _ in range(self._many(rules.map.min_pairs, rules.map.max_pairs or 3)):
                if item.message_type is None:
                    made = self._scalar(item, rules.map.values)
                    value[self._scalar(key, rules.map.keys)] = made
        elif field.is_repeated:
            for _ in range(self._many(rules.repeated.min_items, rules.repeated.max_items or 3)):
                if field.message_type is None:
                    value.append(self._scalar(field, rules.repeated.items))
                else:
                    self._fill_message(value.add(), field, depth)
        elif field.message_type is None:
            setattr(message, field.name, self._scalar(field, rules))
        else:
            value.SetInParent()
            self._fill_message(value, field, depth)

    def _many(self, least: int, most: int) -> int:
        if self._luck.random() < self._hostility:
            return self._luck.choice([0, most + 1, 40])
        return size(self._luck, int(least), int(most))

    def _fill_message(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        known = KNOWN_MESSAGES.get(message.DESCRIPTOR.full_name)
        if known is not None and self._luck.random() >= self._hostility:
            known(self._luck, message, field)
        elif depth < DEEPEST:
            self._fill(message, depth + 1)

    def _scalar(self, field: FieldDescriptor, rules: Rules) -> Any:
        if self._luck.random() < self._hostility:
            return hostile(self._luck, field)
        if field.cpp_type != FieldDescriptor.CPPTYPE_STRING or field.type == field.TYPE_BYTES:
            return keeping(self._luck, field, rules)
        meaning = self._meaningful(field) if self._luck.random() < MEANT else None
        if meaning is not None:
            return meaning
        return self._marked(keeping(self._luck, field, rules), rules)

    def _meaningful(self, field: FieldDescriptor) -> str | None:
        """A string that means something to the shop here, where there is one."""
        name, luck, memory = field.name, self._luck, self._memory
        if name in WORDS:
            return luck.choice(WORDS[name])
        if name == "email":
            return luck.choice([new_email(luck), *memory.emails])
        if name == "page_token":
            assert self._method is not None
            pages = memory.pages[self._method.full_name]
            return luck.choice(pages) if pages and luck.random() < 0.5 else ""
        if tokens := memory.tokens[self._who, name]:
            return luck.choice(tokens)
        if self._subject is not None and name in self._subject.fields:
            taken = name in ("slug", "sku") and luck.random() < 0.8
            return None if taken else self._subject.fields[name]
        if name == "etag":
            return ""
        if name == "id" or name.endswith(("_id", "_ids")):
            if name == "user_id" and luck.random() < 0.5:
                return "me"
            return memory.id_for(luck, name, self._who) or None
        return None

    def _marked(self, text: str, rules: Rules) -> str:
        kept = rules.string
        bound = kept.pattern or kept.uuid or kept.email or kept.max_bytes or getattr(kept, "in")
        longest = kept.max_len or 200
        if bound or longest < TELLTALE or not text or not self._mark:
            return text
        return f"{self._mark} {text}"[:longest]


Luck = random.Random


def _mask(luck: Luck, message: Any, field: FieldDescriptor) -> None:
    assert field.containing_type is not None
    names = [each.name for each in field.containing_type.fields]
    changeable = [name for name in names if name not in ("id", "etag", "update_mask")]
    if luck.random() < 0.1:
        message.paths.append("*")
    else:
        message.paths.extend(luck.sample(changeable, k=luck.randint(0, len(changeable))))


def _money(luck: Luck, message: Any, field: FieldDescriptor) -> None:
    message.currency_code = luck.choice(["EUR"] * 9 + ["USD", "JPY", "KWD", "XXX"])
    message.units = luck.choice([0, 1, 20, 20, 40, 10**6, 10**12])
    if message.currency_code != "JPY":
        message.nanos = luck.choice([0, 0, 500_000_000, 10_000_000, 1])


def _postal_address(luck: Luck, message: Any, field: FieldDescriptor) -> None:
    message.region_code = luck.choice(["GB", "DE", "DE", "US", "XX"])
    message.address_lines.append("221b Baker Street")
    message.locality = luck.choice(["", "London"])


def _timestamp(luck: Luck, message: Any, field: FieldDescriptor) -> None:
    message.seconds = luck.choice([0, 1_700_000_000, 4_000_000_000, 253_402_300_799])
    message.nanos = luck.choice([0, 0, 1, 999_999_999])


def _duration(luck: Luck, message: Any, field: FieldDescriptor) -> None:
    message.seconds = luck.choice([1, 60, 900])


def _http_body(luck: Luck, message: Any, field: FieldDescriptor) -> None:
    message.content_type = "application/json"
    message.data = luck.choice([b"{}", b'{"id": "evt_1", "object": "event"}', luck.randbytes(40)])


KNOWN_MESSAGES: dict[str, Callable[[Luck, Any, FieldDescriptor], None]] = {
    "google.protobuf.FieldMask": _mask,
    "google.type.Money": _money,
    "google.type.PostalAddress": _postal_address,
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": _duration,
    "google.api.HttpBody": _http_body,
}
WORDS: dict[str, list[str]] = {
    "password": [PASSWORD],
    "current_password": [PASSWORD],
    "new_password": [PASSWORD],
    "email_prefix": ["a", "admin"],
    "phone": ["+44 20 7946 0000"],
    "shipping_phone": ["+44 20 7946 0000"],
    "payment_method": ["pm_card_visa"] * len(CARDS) + sorted(f"pm_card_{name}" for name in CARDS),
    "q": ["lamp", "a", "brass lamp", "lmap", "zzz"],
    "return_url": ["https://example.com/back"],
    "currency_code": ["EUR"],
}
