"""The OpenAPI document by itself: it is valid, whole, and its examples are good."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import protovalidate
import pytest
import yaml
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from google.protobuf.message_factory import GetMessageClass
from openapi_spec_validator import OpenAPIV31SpecValidator

from cli import edge
from cli.catalogue import demo_items
from cli.topology import ALL_SERVICES
from tests.conventions import stated
from tests.documented import complaints, document, operations, resolved
from tools.contract import DESCRIPTORS, load
from tools.openapi import examples

CONTRACT = load(DESCRIPTORS.read_bytes())
METHODS = {method.name: method for method in CONTRACT.methods}
OPERATIONS = list(operations().values())
NAMES = list(operations())


def answered_by_envoy() -> set[tuple[str, str]]:
    """Verbs and templates of the REST calls that the rendered configuration leads somewhere.

    Envoy finds REST paths in the descriptors that it is given, for the services that its
    transcoder names; what they become needs a route as well.
    """
    configuration = yaml.load(edge.render(edge.Edge.compose()), Loader=yaml.CSafeLoader)
    listener = configuration["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (transcoder,) = [
        each["typed_config"] for each in manager["http_filters"] if each["name"] == "transcoder"
    ]
    routed = {
        route["match"]["path"]
        for host in manager["route_config"]["virtual_hosts"]
        for route in host["routes"]
        if route.get("route", {}).get("cluster", "nowhere") != "nowhere"
    }
    given = descriptor_pb2.FileDescriptorSet.FromString(
        (edge.ROOT / transcoder["proto_descriptor"]).read_bytes()
    )
    found = set()
    for file in given.file:
        for service in file.service:
            name = f"{file.package}.{service.name}"
            for method in service.method:
                if name in transcoder["services"] and f"/{name}/{method.name}" in routed:
                    rule = method.options.Extensions[annotations_pb2.http]
                    for binding in (rule, *rule.additional_bindings):
                        verb = str(binding.WhichOneof("pattern"))
                        found.add((verb, getattr(binding, verb)))
    return found


def test_it_is_valid() -> None:
    OpenAPIV31SpecValidator(document()).validate()


def test_it_describes_what_envoy_answers_and_nothing_else() -> None:
    described = [(operation.verb, operation.path.rstrip("/")) for operation in OPERATIONS]
    assert len(described) > 70
    assert len(described) == len(set(described))
    assert set(described) == answered_by_envoy()


def test_paths_end_in_a_slash_unless_they_name_a_file() -> None:
    for path in document()["paths"]:
        assert path.endswith("/") != ("." in path.rpartition("/")[2])


def test_every_service_is_described() -> None:
    tags = {tag["name"] for tag in document()["tags"] if tag["description"]}
    assert {tag for operation in OPERATIONS for tag in operation.described["tags"]} == tags
    assert {name.split(".")[1] for name in map(_rpc, OPERATIONS)} == set(ALL_SERVICES)


def _rpc(operation: Any) -> str:
    return str(operation.described["x-rpc"])


@pytest.mark.parametrize("operation", OPERATIONS, ids=NAMES)
class TestOperation:
    def test_it_says_who_may_call(self, operation: Any) -> None:
        access = operation.described["x-access"]
        assert f"**Access: {access}.**" in operation.described["description"]
        method = METHODS[_rpc(operation)]
        optional = {} in operation.described["security"] or not operation.described["security"]
        assert optional == (access == "PUBLIC")
        assert (operation.described["security"] == []) == method.ignores_credentials

    def test_it_names_every_reason_that_its_method_names(self, operation: Any) -> None:
        own = stated(CONTRACT, METHODS[_rpc(operation)])
        assert own <= set(operation.described["x-reasons"])
        assert set(operation.described["x-reasons"]) == {
            name
            for status, response in operation.described["responses"].items()
            if int(status) >= 400
            for name in re.findall(
                r"^- `([A-Z_]+)`", resolved(response)["description"], re.MULTILINE
            )
        }

    def test_what_changes_something_takes_an_idempotency_key(self, operation: Any) -> None:
        names = {resolved(each)["name"] for each in operation.described.get("parameters", ())}
        assert ("Idempotency-Key" in names) == (operation.verb != "get")

    def test_what_makes_something_answers_201_and_where_it_is(self, operation: Any) -> None:
        responses = operation.described["responses"]
        made = operation.described["operationId"].startswith("Create")
        assert ("201" in responses) == made
        assert ("200" in responses) != made
        assert not made or "location" in responses["201"]["headers"]

    def test_its_examples_are_what_it_says(self, operation: Any) -> None:
        for response in map(resolved, operation.described["responses"].values()):
            for media in response.get("content", {}).values():
                for example in media.get("examples", {}).values():
                    assert complaints(media["schema"], resolved(example)["value"]) == []

    def test_its_requests_would_be_accepted(self, operation: Any) -> None:
        """By the document's own schemas, and by the rules that the services check."""
        fields: dict[str, Any] = {}
        for each in map(resolved, operation.described.get("parameters", ())):
            if "example" in each:
                assert complaints(each["schema"], each["example"]) == []
                if each["in"] != "header":
                    fields[each["name"]] = each["example"]
        body = operation.body()
        if body is None:
            assert_accepted(_rpc(operation), fields)
        elif "$ref" in body[0]:  # otherwise it is taken as it comes
            for example in body[1].values():
                assert complaints(body[0], example) == []
                assert_accepted(_rpc(operation), fields | example)


def assert_accepted(method: str, fields: dict[str, Any]) -> None:
    package, _, name = METHODS[method].request.rpartition(".")
    for file in Path(DESCRIPTORS.parent, *package.split(".")).glob("*_pb2.py"):
        importlib.import_module(f"{package}.{file.stem}")
    kind = GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(f"{package}.{name}"))
    assert protovalidate.collect_violations(json_format.ParseDict(fields, kind())) == []


def test_its_examples_name_a_product_of_the_demo() -> None:
    product = demo_items()[0]
    assert (str(product.id), product.slug) == (examples.PRODUCT, examples.SLUG)
    assert str(product.choices[0].id) == examples.VARIANT
    assert product.choices[0].on_hand > 0
