"""The public methods of the contract, as the edge has to know them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2

from shop.options.v1 import access_pb2

Credentials = Literal["required", "optional", "ignored"]

_VARIABLE = re.compile(r"\{(\w+)\}")


class ContractError(Exception):
    """The descriptor set holds a public method that the edge cannot serve safely."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A REST address of a method: verb in capitals, path template without a trailing slash."""

    verb: str
    template: str

    @property
    def pattern(self) -> str:
        """Regular expression for the paths of the template, in both slash forms."""
        literals = _VARIABLE.split(self.template)[::2]
        return "[^/?]+".join(re.escape(literal) for literal in literals) + "/?"

    @property
    def variables(self) -> tuple[str, ...]:
        """Fields of the request that are path segments."""
        return tuple(_VARIABLE.findall(self.template))


@dataclass(frozen=True, slots=True)
class Rpc:
    """A public method."""

    name: str
    grpc_service: str
    service: str  # which of ours serves it: users, catalog …
    credentials: Credentials
    strictly_limited: bool
    cacheable: bool
    streams: bool
    bindings: tuple[Binding, ...]

    @property
    def path(self) -> str:
        """Path of the method as a gRPC call."""
        return f"/{self.grpc_service}/{self.name}"

    @property
    def reads(self) -> bool:
        """Whether calling it twice is calling it once: HTTP says so of GET (RFC 9110, 9.2.2)."""
        return all(binding.verb == "GET" for binding in self.bindings)

    @property
    def creates(self) -> bool:
        """Whether it answers 201: the standard verb tells (AIP-133)."""
        return self.name.startswith("Create")


def public_rpcs(descriptors: bytes, services: Collection[str]) -> list[Rpc]:
    """The public methods of `services` in a serialized FileDescriptorSet, reads first.

    A gRPC service is public when its methods have HTTP rules. Raises ContractError if one of its
    methods has none, declares no access, or is meant for other services.
    """
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors).file
    found = [
        _rpc(service, f"{file.package}.{proto.name}", method)
        for file in files
        if (service := _owner(file.package)) in services
        for proto in file.service
        if any(method.options.HasExtension(annotations_pb2.http) for method in proto.method)
        for method in proto.method
    ]
    return sorted(found, key=lambda rpc: not rpc.reads)


def _owner(package: str) -> str:
    """`users` for the package `shop.users.v1`, an empty text for packages that are not ours."""
    root, _, rest = package.partition(".")
    return rest.split(".")[0] if root == "shop" else ""


def _rpc(service: str, grpc_service: str, method: descriptor_pb2.MethodDescriptorProto) -> Rpc:
    name = f"{grpc_service}.{method.name}"
    options = method.options.Extensions
    access = options[access_pb2.access]
    if access in (access_pb2.ACCESS_UNSPECIFIED, access_pb2.ACCESS_SERVICE):
        raise ContractError(f"{name} is public and has {access_pb2.Access.Name(access)}")
    if not method.options.HasExtension(annotations_pb2.http):
        raise ContractError(f"{name} is public and has no HTTP rule")
    credentials: Credentials = "optional" if access == access_pb2.ACCESS_PUBLIC else "required"
    if options[access_pb2.ignores_credentials]:
        if credentials == "required":
            raise ContractError(f"{name} ignores credentials and is not for everybody")
        credentials = "ignored"
    return Rpc(
        name=method.name,
        grpc_service=grpc_service,
        service=service,
        credentials=credentials,
        strictly_limited=options[access_pb2.strictly_limited],
        cacheable=options[access_pb2.cacheable],
        streams=method.server_streaming or method.client_streaming,
        bindings=tuple(_bindings(name, options[annotations_pb2.http])),
    )


def _bindings(name: str, rule: http_pb2.HttpRule) -> Iterator[Binding]:
    for each in (rule, *rule.additional_bindings):
        verb = each.WhichOneof("pattern")
        template = "" if verb in (None, "custom") else getattr(each, verb)
        # Wildcards and custom verbs would need other regular expressions than `pattern` makes.
        if not template or re.search(r"[*:]", template):
            raise ContractError(f"{name} has an HTTP rule that the edge does not understand")
        yield Binding(verb.upper(), template)
