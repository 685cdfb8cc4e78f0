"""The document as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tools.contract import OURS, load
from tools.openapi import reasons
from tools.openapi.error_schemas import error_schemas
from tools.openapi.operations import Operations, tag
from tools.openapi.words import prose

Schema = dict[str, Any]

VERSION = "1.0.0"
# As somebody meets them who comes to buy.
_ORDER = ("User", "Auth", "Catalog", "Cart", "Order", "Payment", "Rate")
_INTRODUCTION = Path(__file__).with_name("introduction.md")
_PARAMETERS: dict[str, Schema] = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": (
            "1 to 255 printable ASCII characters of your choice, new for each new call. A call "
            "repeated with its key has its effect once and gets the same answer."
        ),
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": 255,
            "pattern": "^[ -~]+$",
        },
    },
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "description": (
            "The resource's `etag`, in quotes: the call is refused (ETAG_MISMATCH) when it is "
            "another one by now. The same as the field `etag`."
        ),
        "schema": {
            "type": "string",
            "maxLength": 66,
            "pattern": r'^(\*|(W/)?"[^"]*"|[^",*\s]+)$',
        },
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "An `etag` header got earlier: 304 when the answer still has it.",
        "schema": {"type": "string", "maxLength": 1024},
    },
    "CartToken": {
        "name": "x-cart-token",
        "in": "header",
        "description": (
            "Names a guest's cart: the `cart_token` that the first AddItem answered. Not looked at "
            "when there is an access token."
        ),
        "schema": {"type": "string", "maxLength": 256},
    },
    "StripeSignature": {
        "name": "stripe-signature",
        "in": "header",
        "required": True,
        "description": "Stripe's signature of the body.",
        "schema": {"type": "string"},
        "example": "t=1764322200,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8",
    },
}
_HEADERS: dict[str, Schema] = {
    "Location": {
        "description": "Path of what was made.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "ETag": {
        "description": "Version of the answer, for `If-None-Match`.",
        "schema": {"type": "string"},
    },
}
_SECURITY: dict[str, Schema] = {
    "accessToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The `access_token` that `POST /api/auth/login/` answers.",
    }
}


def document(descriptors: bytes) -> Schema:
    """The OpenAPI document of a serialized FileDescriptorSet."""
    contract = load(descriptors, (OURS, "google.type"))
    operations = Operations(contract)
    public = sorted(
        (method for method in contract.methods if any(method.bindings())),
        key=lambda method: _ORDER.index(tag(method.service)),
    )
    paths: dict[str, Schema] = {}
    for method in public:
        for binding in method.bindings():
            verb, template, _ = binding
            paths.setdefault(path(template), {})[verb] = operations.operation(method, binding)
    services = dict.fromkeys(method.service for method in public)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "shop",
            "version": VERSION,
            "summary": "The backend of an online store.",
            "description": prose(_INTRODUCTION.read_text()),
        },
        "servers": [{"url": "/", "description": "This shop."}],
        "tags": [
            {"name": tag(name), "description": prose(contract.comments[name] or "")}
            for name in services
        ],
        "paths": paths,
        "components": {
            "securitySchemes": _SECURITY,
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "schemas": {
                **operations.schemas.components,
                **error_schemas(
                    {name: known.advice for name, known in reasons.known(contract).items()}
                ),
            },
            "responses": operations.responses.components,
            "examples": {**operations.examples, **operations.responses.examples},
        },
    }


def path(template: str) -> str:
    """A path as it is documented: with a slash at its end, unless it names a file."""
    return template if "." in template.rpartition("/")[2] else f"{template}/"


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are, lists of names in one line, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text.strip() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


def _list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.SequenceNode:
    names = all(isinstance(item, str) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=names)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)


def dump(described: Schema) -> str:
    """The document as YAML."""
    note = "# The REST side of the shop. Written by `make protos` from protos/: change it there.\n"
    return note + yaml.dump(
        described, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )
