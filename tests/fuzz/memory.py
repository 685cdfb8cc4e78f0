"""What earlier answers gave: things with their ids, and tokens, so that later calls reach them."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from tests.fuzz.values import is_map

# Scalars of a thing that requests about it have to name.
TELLING = re.compile(r"id|\w+_id|etag|slug|sku")
# Things go by the name of their message, but for those that requests call something else.
OWN = 0.7
NAMES = {"CartItem": "Item", "VariantSnapshot": "Variant", "OrderLine": "Line"}


@dataclass
class Thing:
    """Something that has an id: an order, an address."""

    kind: str
    id: str
    who: str = ""
    """Who was told of it last."""
    fields: dict[str, str] = field(default_factory=dict)


class Memory:
    """What one story has made so far. What only lists have shown belongs to others and is left out,
    so that a story goes the same way whoever else is in the shop."""

    def __init__(self) -> None:
        self._things: dict[str, dict[str, Thing]] = defaultdict(dict)
        self.tokens: dict[tuple[str, str], list[str]] = defaultdict(list)
        """By who was given them and the name of the field that takes them."""
        self.pages: dict[str, list[str]] = defaultdict(list)
        """Page tokens by the method that made them."""
        self.emails: list[str] = []

    def keep(self, method: MethodDescriptor, who: str, answer: Message) -> None:
        """Take what can be used again out of an answer."""
        is_page = method.name.startswith("List")
        for message in _messages(answer):
            values = dict(_scalars(message))
            if token := values.pop("next_page_token", ""):
                self.pages[method.full_name].append(token)
            for name, value in values.items():
                if name.endswith("_token"):
                    self.tokens[who, name].append(value)
            kind = NAMES.get(message.DESCRIPTOR.name, message.DESCRIPTOR.name)
            known = self._things[kind]
            if "id" in values and (not is_page or values["id"] in known):
                telling = {k: v for k, v in values.items() if TELLING.fullmatch(k)}
                known[values["id"]] = Thing(kind, values["id"], who, telling)

    def add(self, kind: str, who: str, **fields: str) -> None:
        """Add a thing that is known from elsewhere."""
        self._things[kind][fields["id"]] = Thing(kind, fields["id"], who, fields)

    def kinds(self) -> list[str]:
        """The kinds of which there is something."""
        return sorted(kind for kind, things in self._things.items() if things)

    def one(self, luck: random.Random, kind: str, who: str) -> Thing | None:
        """A thing of this kind; sooner one's own, and sooner one of the latest."""
        things = list(self._things[kind].values())
        own = [thing for thing in things if thing.who == who]
        if own and luck.random() < OWN:
            things = own
        if not things:
            return None
        return luck.choice(things[-3:] if luck.random() < 0.5 else things)

    def subject(self, luck: random.Random, method: MethodDescriptor, who: str) -> Thing | None:
        """Something that a method may be about: what its name names, else its service's."""
        service = method.containing_service
        assert service is not None
        for name in (method.name, service.name):
            named = [kind for kind in self.kinds() if kind in name]
            if named:
                return self.one(luck, max(named, key=len), who)
        return None

    def id_for(self, luck: random.Random, name: str, who: str) -> str:
        """An id for a field such as `order_id` or `category_ids`; empty when there is none."""
        noun = re.sub(r"_ids?$", "", name)
        words = "".join(word.capitalize() for word in noun.split("_"))
        kinds = [kind for kind in self.kinds() if words.endswith(kind)] or self.kinds()
        thing = self.one(luck, luck.choice(kinds), who) if kinds else None
        return thing.id if thing else ""


def _messages(message: Message) -> Iterator[Message]:
    """A message and all messages in it."""
    yield message
    for one, value in message.ListFields():
        if one.message_type is None or is_map(one):
            continue
        for inner in value if one.is_repeated else [value]:
            yield from _messages(inner)


def _scalars(message: Any) -> Iterator[tuple[str, str]]:
    for one, value in message.ListFields():
        if one.cpp_type == FieldDescriptor.CPPTYPE_STRING and isinstance(value, str) and value:
            yield one.name, value
