"""The body of every refusal: `google.rpc.Status` with its details, as Envoy prints them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.openapi.words import values

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}


def error_schemas(reasons: Mapping[str, str]) -> dict[str, Schema]:
    """Components for errors; `reasons` are the values of `ErrorInfo.reason`, with their meaning."""
    kinds = ("ErrorInfo", "BadRequest", "PreconditionFailure", "RetryInfo")
    types = {name: f"type.googleapis.com/google.rpc.{name}" for name in kinds}
    references = {name: f"#/components/schemas/{name}" for name in kinds}
    return {
        "Error": {
            "type": "object",
            "description": (
                "Why a call was refused (`google.rpc.Status`). Programs decide by the `reason` of "
                "the `ErrorInfo` in `details`; `message` is for people and may change."
            ),
            "required": ["code", "message", "details"],
            "properties": {
                "code": {
                    "type": "integer",
                    "description": "Status code of gRPC (`google.rpc.Code`), such as 5: NOT_FOUND.",
                    "minimum": 1,
                    "maximum": 16,
                },
                "message": _TEXT | {"description": "For people."},
                "details": {
                    "type": "array",
                    "items": {
                        "oneOf": [{"$ref": reference} for reference in references.values()],
                        "discriminator": {
                            "propertyName": "@type",
                            "mapping": {types[name]: references[name] for name in kinds},
                        },
                    },
                },
            },
        },
        "Reason": {
            "type": "string",
            "description": values(reasons),
            "enum": list(reasons),
        },
        "ErrorInfo": _detail(
            types["ErrorInfo"],
            "What went wrong, for programs. In every error.",
            {
                "reason": {"$ref": "#/components/schemas/Reason"},
                "domain": {"const": "shop"},
                "metadata": {
                    "type": "object",
                    "description": "What the reason is about; which keys there are, it says.",
                    "additionalProperties": _TEXT,
                },
            },
            optional="metadata",
        ),
        "BadRequest": _detail(
            types["BadRequest"],
            "Which fields of the request are at fault.",
            {
                "field_violations": {
                    "type": "array",
                    "maxItems": 20,
                    "items": {
                        "type": "object",
                        "required": ["field", "description"],
                        "properties": {
                            "field": _TEXT | {"description": "Such as `items[0].quantity`."},
                            "description": _TEXT,
                        },
                    },
                }
            },
        ),
        "PreconditionFailure": _detail(
            types["PreconditionFailure"],
            "What forbids the call.",
            {
                "violations": {
                    "type": "array",
                    "maxItems": 20,
                    "items": {
                        "type": "object",
                        "required": ["type", "subject", "description"],
                        "properties": {
                            "type": _TEXT | {"description": "The reason."},
                            "subject": _TEXT | {"description": "Such as a variant's id."},
                            "description": _TEXT,
                        },
                    },
                }
            },
        ),
        "RetryInfo": _detail(
            types["RetryInfo"],
            "When it may be tried again.",
            {"retry_delay": _TEXT | {"pattern": r"^[0-9]+(\.[0-9]+)?s$"}},
        ),
    }


def _detail(
    type_url: str, description: str, properties: dict[str, Schema], *, optional: str = ""
) -> Schema:
    return {
        "type": "object",
        "description": description,
        "required": ["@type", *(name for name in properties if name != optional)],
        "properties": {"@type": {"const": type_url}, **properties},
    }
