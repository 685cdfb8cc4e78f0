"""JSON of messages, compared with what protobuf's own library makes of them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.latlng_pb2 import LatLng

from services.kit import proto_json
from shop.catalog.v1.catalog_pb2 import (
    Category,
    ListCategoriesResponse,
    ListProductsResponse,
    Product,
    Variant,
)
from shop.users.v1.users_pb2 import JsonWebKeySet
from tests.kit.things import UpdateThingRequest

ANSWERS = [Product, ListProductsResponse, Category, ListCategoriesResponse, JsonWebKeySet, Variant]
WORDS = ["", "hat", 'a "quoted" \\ word', "tab\tand\nline\x00", "<b>é ☃ 𝄞</b>", "\u2028/\x7f"]
VALUES: dict[int, Callable[[random.Random], Any]] = {
    FieldDescriptor.TYPE_STRING: lambda chance: chance.choice(WORDS),
    FieldDescriptor.TYPE_BOOL: lambda chance: chance.random() < 0.5,
    FieldDescriptor.TYPE_INT32: lambda chance: chance.choice([0, 7, -(2**31), 2**31 - 1]),
    FieldDescriptor.TYPE_INT64: lambda chance: chance.choice([0, 7, -(2**63), 2**63 - 1]),
    FieldDescriptor.TYPE_ENUM: lambda chance: chance.choice([0, 1, 2, 77]),
}


def fill(message: Any, chance: random.Random) -> None:
    """Set some of its fields to something."""
    if isinstance(message, Timestamp):
        message.seconds = chance.choice([0, 951_782_400, 1_795_958_942, -62_135_596_800])
        message.nanos = chance.choice([0, 500_000_000, 5_903_000, 5_900_000, 1_000, 999_999_999])
        return
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.3:
            continue
        times = chance.randrange(3)
        if field.message_type and field.message_type.GetOptions().map_entry:
            for _ in range(times):
                getattr(message, field.name)[chance.choice(WORDS)] = chance.choice(WORDS)
        elif field.message_type and field.is_repeated:
            for _ in range(times):
                fill(getattr(message, field.name).add(), chance)
        elif field.message_type:
            getattr(message, field.name).SetInParent()
            fill(getattr(message, field.name), chance)
        elif field.is_repeated:
            getattr(message, field.name).extend(VALUES[field.type](chance) for _ in range(times))
        else:
            setattr(message, field.name, VALUES[field.type](chance))


@pytest.mark.parametrize("kind", [*ANSWERS, UpdateThingRequest], ids=lambda kind: kind.__name__)
def test_it_is_what_protobuf_makes(kind: type[Message]) -> None:
    write = proto_json.writer(kind)
    chance = random.Random(kind.__name__)
    for _ in range(300):
        message = kind()
        fill(message, chance)
        assert json.loads(write(message)) == json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )


def test_an_empty_one_has_all_its_zeros_and_no_absent_field() -> None:
    assert proto_json.writer(Variant)(Variant(on_hand=0)) == (
        b'{"id":"","product_id":"","sku":"","options":{},"weight_grams":0,"allow_backorder":false,'
        b'"on_hand":0,"available":0,"inventory_status":"INVENTORY_STATUS_UNSPECIFIED","etag":""}'
    )


def test_googles_own_have_their_own() -> None:
    request = UpdateThingRequest(update_mask=FieldMask(paths=["text", "size"]))
    assert b'"update_mask":"text,size"' in proto_json.writer(UpdateThingRequest)(request)


def test_what_it_does_not_know_it_does_not_guess() -> None:
    with pytest.raises(NotImplementedError, match="latitude"):
        proto_json.writer(LatLng)
