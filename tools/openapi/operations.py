"""One operation for each REST binding of each method."""

from __future__ import annotations

import re
from typing import Any

from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2

from shop.options.v1 import access_pb2
from tools.contract import Contract, Field, Method
from tools.openapi import bounds, examples, reasons
from tools.openapi.schemas import EMPTY, Schemas, is_required
from tools.openapi.words import prose, title

Schema = dict[str, Any]

_WEBHOOK = "google.api.HttpBody"
_CARTS = "shop.cart.v1.CartService"
# Reads whose answers have an etag that they can be asked about again.
_HTTP_ETAG = {"$ref": "#/components/headers/ETag"}


class Operations:
    """Builds operations; what they refer to is collected in `schemas` and `responses`."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self.schemas = Schemas(contract)
        self.responses = reasons.Responses(contract)
        self.examples: dict[str, Schema] = {}

    def operation(self, method: Method, binding: tuple[str, str, str]) -> Schema:
        """The operation of one verb and path."""
        verb, path, body = binding
        name = method.proto.name
        # PUT and PATCH are one method; an operation has a name of its own.
        unique = re.sub("^(Update|Set)", "Patch", name) if verb == "patch" else name
        operation: Schema = {
            "operationId": unique,
            "summary": title(unique if verb != "patch" else name),
            "description": self._description(method, verb),
            "tags": [tag(method.service)],
            "security": security(method),
            "parameters": self._parameters(method, path, in_query=not body),
        }
        if body:
            operation["requestBody"] = self._body(method, path)
        operation["responses"] = {
            **self._success(method, path, verb),
            **self.responses.of(method),
        }
        return {key: value for key, value in operation.items() if value not in ([], "")} | {
            "security": operation["security"],
            "x-access": access_pb2.Access.Name(method.access).removeprefix("ACCESS_"),
            "x-rpc": method.name,
            "x-reasons": list(reasons.of(self._contract, method)),
        }

    def _description(self, method: Method, verb: str) -> str:
        text, _, _ = prose(self._contract.comments[method.name] or "").partition("Reasons: ")
        access = access_pb2.Access.Name(method.access)
        said = prose(self._contract.comments[f"shop.options.v1.Access.{access}"] or "")
        lines = [text.strip()]
        if verb == "patch":
            lines.append("The same as PUT.")
        _, rules = bounds.of_request(self._request(method).options.Extensions[validate_pb2.message])
        lines += [f"Rule: {rule}." for rule in rules]
        lines.append(f"**Access: {access.removeprefix('ACCESS_')}.** {said}")
        if method.ignores_credentials:
            lines[-1] = f"**Access: {access.removeprefix('ACCESS_')}.** Tokens are not looked at."
        if method.checks_session:
            lines.append("The session of the token has to be alive.")
        return "\n\n".join(lines)

    def _request(self, method: Method) -> descriptor_pb2.DescriptorProto:
        return self._contract.messages[method.request]

    def _parameters(self, method: Method, path: str, *, in_query: bool) -> list[Schema]:
        found = []
        variables = re.findall(r"\{(\w+)\}", path)
        for entry in self._request(method).field:
            if entry.name in variables:
                found.append(self._parameter(method, path, entry, "path"))
            elif in_query:
                found.append(self._parameter(method, path, entry, "query"))
        names = []
        if method.service == _CARTS and method.access == access_pb2.ACCESS_PUBLIC:
            names.append("CartToken")
        if not reasons.is_read(method):
            names.append("IdempotencyKey")
        if any(entry.name == "etag" for entry in self._request(method).field):
            names.append("IfMatch")
        if method.cacheable:
            names.append("IfNoneMatch")
        if self._takes_raw_body(method):
            names.append("StripeSignature")
        return found + [{"$ref": f"#/components/parameters/{name}"} for name in names]

    def _parameter(self, method: Method, path: str, entry: Field, place: str) -> Schema:
        required = place == "path" or is_required(entry)
        parameter: Schema = {"name": entry.name, "in": place, "required": required}
        if not required:
            del parameter["required"]
        said = self.schemas.comment(f"{method.request}.{entry.name}")
        parameter["description"] = said
        parameter["schema"] = self.schemas.parameter(entry)
        example = examples.parameter(method.proto.name, path, entry.name)
        return parameter | ({} if example is None else {"example": example})

    def _takes_raw_body(self, method: Method) -> bool:
        return any(e.type_name == f".{_WEBHOOK}" for e in self._request(method).field)

    def _body(self, method: Method, path: str) -> Schema:
        variables = re.findall(r"\{(\w+)\}", path)
        if self._takes_raw_body(method):
            schema: Schema = {"type": "object", "description": "An event as Stripe makes it."}
        else:
            schema = self.schemas.body(method.request, variables)
        named = examples.REQUESTS[method.proto.name]
        return {
            "required": True,
            "content": {
                "application/json": {
                    "schema": schema,
                    "examples": {
                        re.sub(r"\W+", "-", name).lower(): {"summary": name, "value": value}
                        for name, value in named.items()
                    },
                }
            },
        }

    def _success(self, method: Method, path: str, verb: str) -> dict[str, Schema]:
        if method.proto.server_streaming:
            return {"200": self._stream(method)}
        component = method.response.rpartition(".")[2]
        said = "Done." if method.response == EMPTY else self.schemas.comment(method.response)
        response: Schema = {"description": said}
        created = method.proto.name.startswith("Create")
        headers = {}
        if created:
            headers["location"] = {"$ref": "#/components/headers/Location"}
        if method.cacheable:
            headers["etag"] = _HTTP_ETAG
        if headers:
            response["headers"] = headers
        if component not in self.examples:
            value = (
                {} if method.response == EMPTY else examples.answer(self._contract, method.response)
            )
            self.examples[component] = {"summary": component, "value": value}
        response["content"] = {
            "application/json": {
                "schema": self.schemas.answer(method.response),
                "examples": {component: {"$ref": f"#/components/examples/{component}"}},
            }
        }
        found = {"201" if created else "200": response}
        if method.cacheable:
            found["304"] = {
                "description": "The answer has still the etag of `if-none-match`.",
                "headers": {"etag": _HTTP_ETAG},
            }
        return found

    def _stream(self, method: Method) -> Schema:
        message = self.schemas.answer(method.response)
        return {
            "description": (
                "Server-sent events. The `data` of each is a "
                f"`{method.response.rpartition('.')[2]}` as JSON."
            ),
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    # OpenAPI 3.1 has no word for what a stream is made of.
                    "x-event": message,
                    "example": 'data: {"event": {"sequence": 1, "to_status": "PENDING"}}\n\n',
                }
            },
        }


def security(method: Method) -> list[Schema]:
    """What has to be sent to be let in: nothing, a token if there is one, or a token."""
    if method.ignores_credentials:
        return []
    bearer: Schema = {"accessToken": []}
    return [{}, bearer] if method.access == access_pb2.ACCESS_PUBLIC else [bearer]


def tag(service: str) -> str:
    """`Catalog` for `shop.catalog.v1.CatalogService`."""
    return service.rpartition(".")[2].removesuffix("Service")
