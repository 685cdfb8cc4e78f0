"""The contract as the descriptor set has it: messages, enums and methods by name, with comments."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from buf.validate import validate_pb2
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2

from shop.options.v1 import access_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
DESCRIPTORS = ROOT / "generated" / "shop.binpb"
OURS = "shop."

Field = descriptor_pb2.FieldDescriptorProto


@dataclass(frozen=True)
class Method:
    """A method with the options that the contract gives it."""

    service: str
    proto: descriptor_pb2.MethodDescriptorProto

    @property
    def name(self) -> str:
        """Full name, such as `shop.users.v1.UserService.GetUser`."""
        return f"{self.service}.{self.proto.name}"

    @property
    def request(self) -> str:
        """Full name of the request message."""
        return self.proto.input_type.lstrip(".")

    @property
    def response(self) -> str:
        """Full name of the response message."""
        return self.proto.output_type.lstrip(".")

    @property
    def access(self) -> access_pb2.Access.ValueType:
        """Who may call it."""
        return self.proto.options.Extensions[access_pb2.access]

    @property
    def checks_session(self) -> bool:
        """Whether it asks each time if the caller's session is still alive."""
        return self.proto.options.Extensions[access_pb2.checks_session]

    @property
    def ignores_credentials(self) -> bool:
        """Whether it does not look at access tokens."""
        return self.proto.options.Extensions[access_pb2.ignores_credentials]

    @property
    def strictly_limited(self) -> bool:
        """Whether the edge limits its calls more than others."""
        return self.proto.options.Extensions[access_pb2.strictly_limited]

    @property
    def cacheable(self) -> bool:
        """Whether web caches may keep its answers."""
        return self.proto.options.Extensions[access_pb2.cacheable]

    def bindings(self) -> Iterator[tuple[str, str, str]]:
        """HTTP verb, path template and body selector of each REST binding."""
        if not self.proto.options.HasExtension(annotations_pb2.http):
            return
        rule = self.proto.options.Extensions[annotations_pb2.http]
        for binding in [rule, *rule.additional_bindings]:
            verb = cast("str", binding.WhichOneof("pattern"))
            yield verb, getattr(binding, verb), binding.body


@dataclass
class Contract:
    """What a descriptor set says, by full name."""

    messages: dict[str, descriptor_pb2.DescriptorProto] = field(default_factory=dict)
    enums: dict[str, descriptor_pb2.EnumDescriptorProto] = field(default_factory=dict)
    methods: list[Method] = field(default_factory=list)
    # None for what has no comment.
    comments: dict[str, str | None] = field(default_factory=dict)

    def requests(self) -> Iterator[str]:
        """Full names of all request messages, each once."""
        yield from dict.fromkeys(method.request for method in self.methods)

    def fields(self) -> Iterator[tuple[str, Field]]:
        """Every field of every message, with its full name."""
        for name, message in self.messages.items():
            for entry in message.field:
                yield f"{name}.{entry.name}", entry


def load(serialized: bytes, packages: tuple[str, ...] = (OURS,)) -> Contract:
    """Read a serialized FileDescriptorSet: ours of it, or the packages that begin like these."""
    contract = Contract()
    for file in descriptor_pb2.FileDescriptorSet.FromString(serialized).file:
        if file.package.startswith(packages):
            _add_file(contract, file)
    return contract


def rules(entry: Field) -> validate_pb2.FieldRules:
    """The protovalidate rules of a field."""
    return entry.options.Extensions[validate_pb2.field]


def _add_file(contract: Contract, file: descriptor_pb2.FileDescriptorProto) -> None:
    comments = {
        tuple(location.path): location.leading_comments.strip()
        for location in file.source_code_info.location
    }

    def note(name: str, *path: int) -> str:
        contract.comments[name] = comments.get(path)
        return name

    def add_enum(scope: str, enum: descriptor_pb2.EnumDescriptorProto, *path: int) -> None:
        name = note(f"{scope}.{enum.name}", *path)
        contract.enums[name] = enum
        for index, value in enumerate(enum.value):
            note(f"{name}.{value.name}", *path, enum.VALUE_FIELD_NUMBER, index)

    def add_message(scope: str, message: descriptor_pb2.DescriptorProto, *path: int) -> None:
        if message.options.map_entry:
            return
        name = note(f"{scope}.{message.name}", *path)
        contract.messages[name] = message
        for index, entry in enumerate(message.field):
            note(f"{name}.{entry.name}", *path, message.FIELD_FIELD_NUMBER, index)
        for index, nested in enumerate(message.nested_type):
            add_message(name, nested, *path, message.NESTED_TYPE_FIELD_NUMBER, index)
        for index, enum in enumerate(message.enum_type):
            add_enum(name, enum, *path, message.ENUM_TYPE_FIELD_NUMBER, index)

    for index, message in enumerate(file.message_type):
        add_message(file.package, message, file.MESSAGE_TYPE_FIELD_NUMBER, index)
    for index, enum in enumerate(file.enum_type):
        add_enum(file.package, enum, file.ENUM_TYPE_FIELD_NUMBER, index)
    for index, extension in enumerate(file.extension):
        note(f"{file.package}.{extension.name}", file.EXTENSION_FIELD_NUMBER, index)
    for index, service in enumerate(file.service):
        path = (file.SERVICE_FIELD_NUMBER, index)
        name = note(f"{file.package}.{service.name}", *path)
        for position, method in enumerate(service.method):
            contract.methods.append(Method(name, method))
            note(f"{name}.{method.name}", *path, service.METHOD_FIELD_NUMBER, position)
