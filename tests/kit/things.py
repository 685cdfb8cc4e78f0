"""A contract for the tests of the kit: a service of things, one method for each kind of access.

It is built here and not in protos/, because one of its methods breaks the rules on purpose: it
declares no access.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, field_mask_pb2, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.type import money_pb2

from services.kit.conditional import tag
from shop.options.v1 import access_pb2
from shop.options.v1.access_pb2 import Access

SERVICE = "shop.tests.v1.ThingService"
# Name, access, further options.
METHODS: list[tuple[str, Access.ValueType, dict[str, bool]]] = [
    ("GetThing", access_pb2.ACCESS_PUBLIC, {}),
    ("GetCachedThing", access_pb2.ACCESS_PUBLIC, {"cacheable": True}),
    ("CreateThing", access_pb2.ACCESS_PUBLIC, {}),
    ("SignIn", access_pb2.ACCESS_PUBLIC, {"ignores_credentials": True}),
    ("TouchThing", access_pb2.ACCESS_CUSTOMER, {}),
    ("PlainThing", access_pb2.ACCESS_CUSTOMER, {}),
    ("OwnThing", access_pb2.ACCESS_OWNER, {}),
    ("StaffThing", access_pb2.ACCESS_STAFF, {}),
    ("AdminThing", access_pb2.ACCESS_ADMIN, {}),
    ("SessionThing", access_pb2.ACCESS_STAFF, {"checks_session": True}),
    ("ServiceThing", access_pb2.ACCESS_SERVICE, {}),
    ("UndeclaredThing", access_pb2.ACCESS_UNSPECIFIED, {}),
]

_STRING, _INT32 = Field.TYPE_STRING, Field.TYPE_INT32


def _field(message: Any, name: str, kind: Any, *, of: str = "", repeated: bool = False) -> Any:
    return message.field.add(
        name=name,
        number=len(message.field) + 1,
        type=kind,
        type_name=of or None,
        label=Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL,
    )


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="shop/tests/v1/things.proto",
        package="shop.tests.v1",
        syntax="proto3",
        dependency=[
            access_pb2.DESCRIPTOR.name,
            field_mask_pb2.DESCRIPTOR.name,
            money_pb2.DESCRIPTOR.name,
        ],
    )
    thing = file.message_type.add(name="Thing")
    _field(thing, "id", _STRING)
    _field(thing, "text", _STRING)
    _field(thing, "etag", _STRING)

    plain = file.message_type.add(name="PlainThingRequest")
    _field(plain, "id", _STRING)

    update = file.message_type.add(name="UpdateThingRequest")
    _field(update, "id", _STRING)
    _field(update, "text", _STRING)
    _field(update, "size", _INT32)
    note = _field(update, "note", _STRING)
    update.oneof_decl.add(name="_note")
    note.oneof_index, note.proto3_optional = 0, True
    _field(update, "price", Field.TYPE_MESSAGE, of=".google.type.Money")
    _field(update, "words", _STRING, repeated=True)
    labels = update.nested_type.add(name="LabelsEntry")
    labels.options.map_entry = True
    _field(labels, "key", _STRING)
    _field(labels, "value", _STRING)
    entry = ".shop.tests.v1.UpdateThingRequest.LabelsEntry"
    _field(update, "labels", Field.TYPE_MESSAGE, of=entry, repeated=True)
    _field(update, "update_mask", Field.TYPE_MESSAGE, of=".google.protobuf.FieldMask")

    service = file.service.add(name="ThingService")
    for name, access, further in METHODS:
        taken = "PlainThingRequest" if name == "PlainThing" else "Thing"
        method = service.method.add(
            name=name,
            input_type=f".shop.tests.v1.{taken}",
            output_type=".shop.tests.v1.Thing",
        )
        if access != access_pb2.ACCESS_UNSPECIFIED:
            method.options.Extensions[access_pb2.access] = access
        if further.get("ignores_credentials"):
            method.options.Extensions[access_pb2.ignores_credentials] = True
        if further.get("cacheable"):
            method.options.Extensions[access_pb2.cacheable] = True
        if further.get("checks_session"):
            method.options.Extensions[access_pb2.checks_session] = True
    return file


descriptor_pool.Default().AddSerializedFile(_file().SerializeToString())


def _message(name: str) -> Any:
    found = descriptor_pool.Default().FindMessageTypeByName(f"shop.tests.v1.{name}")
    return message_factory.GetMessageClass(found)


Thing = _message("Thing")
UpdateThingRequest = _message("UpdateThingRequest")


class RenderedThing(NamedTuple):
    """A thing that is at hand as it is sent: see `services.kit.methods.Rendered`."""

    raw: bytes
    json: bytes
    tag: str

    @classmethod
    def of(cls, thing: Any) -> RenderedThing:
        """Of a message."""
        raw = thing.SerializeToString()
        return cls(raw, json.dumps({"id": thing.id, "at": "hand"}).encode(), tag(thing, raw))


Behaviour = Callable[[Any], Awaitable[Any]]


async def _echo(request: Any) -> Any:
    return request


class Things:
    """The servicer: each method does what the test told it to do, and echoes otherwise."""

    def __init__(self) -> None:
        self.behaviour: dict[str, Behaviour] = {}

    def handler(self, name: str) -> Callable[[Any, Any], Awaitable[Any]]:
        async def method(request: Any, context: Any) -> Any:
            return await self.behaviour.get(name, _echo)(request)

        return method


def add_to_server(servicer: Things, server: Any) -> None:
    """What generated code has for each service."""
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            servicer.handler(name),
            request_deserializer=Thing.FromString,
            response_serializer=Thing.SerializeToString,
        )
        for name, _, _ in METHODS
    }
    server.add_registered_method_handlers(SERVICE, handlers)


class ThingStub:
    """What generated code has for each client: `await stub.GetThing(Thing(…), timeout=…)`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        for name, _, _ in METHODS:
            call = channel.unary_unary(
                f"/{SERVICE}/{name}",
                request_serializer=Thing.SerializeToString,
                response_deserializer=Thing.FromString,
            )
            setattr(self, name, call)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"things have no method {name}")
