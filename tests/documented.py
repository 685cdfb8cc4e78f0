"""The OpenAPI document, and whether an answer is one that it describes."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import jsonschema
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tools.contract import ROOT

PATH = ROOT / "generated" / "openapi.yaml"
VERBS = ("get", "post", "put", "patch", "delete")
# What any address may answer; the introduction says so.
_ANYWHERE = {400, 404, 405, 408, 426, 431}


@functools.cache
def document() -> dict[str, Any]:
    """The document, as it is committed."""
    loaded: dict[str, Any] = yaml.load(PATH.read_text(), Loader=yaml.CSafeLoader)
    return loaded


@functools.cache
def _registry() -> Registry[Any]:
    resource = Resource.from_contents(document(), default_specification=DRAFT202012)
    empty: Registry[Any] = Registry()
    registry: Registry[Any] = empty.with_resource("urn:openapi", resource)
    return registry


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """What a reference of the document stands for; anything else as it is."""
    while "$ref" in part:
        found: Any = document()
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def complaints(schema: dict[str, Any], value: Any) -> list[str]:
    """What a schema of the document has against a value."""
    validator = jsonschema.Draft202012Validator(
        _rebased(schema),
        registry=_registry(),
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )
    return [f"{error.json_path}: {error.message}"[:300] for error in validator.iter_errors(value)]


def _rebased(part: Any) -> Any:
    """The part of the document with references that are good outside of it."""
    if isinstance(part, dict):
        return {
            key: f"urn:openapi{value}" if key == "$ref" else _rebased(value)
            for key, value in part.items()
        }
    return [_rebased(each) for each in part] if isinstance(part, list) else part


@dataclass(frozen=True)
class Operation:
    """One operation of the document."""

    verb: str
    path: str
    described: dict[str, Any]

    @property
    def pattern(self) -> re.Pattern[str]:
        """Its addresses."""
        return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(self.path.rstrip("/"))) + "/?")

    def body(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Schema and examples of the request's body; None where it takes none."""
        if "requestBody" not in self.described:
            return None
        media = self.described["requestBody"]["content"]["application/json"]
        examples = {name: resolved(each)["value"] for name, each in media["examples"].items()}
        return media["schema"], examples


@functools.cache
def operations() -> dict[str, Operation]:
    """All of them, by operationId."""
    return {
        described["operationId"]: Operation(verb, path, described)
        for path, item in document()["paths"].items()
        for verb, described in item.items()
    }


def find(verb: str, path: str) -> Operation | None:
    """The operation of a call; of several, the one with the most literal path."""
    found = [
        operation
        for operation in operations().values()
        if operation.verb == verb.lower() and operation.pattern.fullmatch(path)
    ]
    return min(found, key=lambda operation: operation.path.count("{"), default=None)


def undocumented(answer: httpx.Response) -> Iterator[str]:
    """What of an answer the document does not say."""
    call = f"{answer.request.method} {answer.request.url.path}: {answer.status_code}"
    operation = find(answer.request.method, answer.request.url.path)
    if operation is None:
        if answer.status_code not in _ANYWHERE:
            yield f"{call} of what is no operation"
        return
    described = operation.described["responses"].get(str(answer.status_code))
    if described is None:
        if answer.status_code not in _ANYWHERE:
            yield f"{call} is not documented"
        return
    described = resolved(described)
    for name, header in described.get("headers", {}).items():
        if resolved(header).get("required") and name not in answer.headers:
            yield f"{call} has no {name}"
    media = answer.headers.get("content-type", "").partition(";")[0]
    if media not in described.get("content", {media: {}}):
        yield f"{call} is {media}"
    elif media == "application/json":
        for complaint in complaints(described["content"][media]["schema"], answer.json()):
            yield f"{call}: {complaint}"
        if answer.status_code >= 400:
            reason = answer.json()["details"][0]["reason"]
            if reason not in operation.described["x-reasons"]:
                yield f"{call}: {reason} is not among its reasons"
