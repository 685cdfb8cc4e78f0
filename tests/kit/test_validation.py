"""Validation: every rule of the contract is checked, and each mistake named by its path."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, strategies as st

from services.kit import validation
from services.kit.errors import ServiceError
from services.kit.ids import uuid7
from shop.catalog.v1 import catalog_pb2, stock_pb2
from shop.errors.v1 import reason_pb2
from shop.order.v1 import order_pb2
from tests.kit.things import Thing, UpdateThingRequest


def mistakes(request: Message) -> dict[str, str]:
    """Path and description of what is wrong with a request."""
    try:
        validation.check(request, request.SerializeToString())
    except ServiceError as error:
        assert error.reason == reason_pb2.REASON_VALIDATION_FAILED
        return {each.field: each.description for each in error.violations}
    return {}


def product(**fields: Any) -> catalog_pb2.CreateProductRequest:
    request = catalog_pb2.CreateProductRequest(name="Tea")
    request.price.currency_code, request.price.units = "USD", 3
    request.MergeFrom(catalog_pb2.CreateProductRequest(**fields))
    return request


class TestPaths:
    def test_a_field(self) -> None:
        request = product()
        request.name = ""
        assert mistakes(request) == {"name": "must be at least 1 characters"}

    def test_a_field_of_an_item_of_a_list(self) -> None:
        request = product(variants=[{"sku": "A"}, {"sku": " bad "}])
        assert "variants[1].sku" in mistakes(request)

    def test_an_entry_of_a_map(self) -> None:
        assert list(mistakes(product(attributes={"size": "x" * 1000}))) == ['attributes["size"]']

    def test_a_key_of_a_map_quoted_as_in_json(self) -> None:
        assert list(mistakes(product(attributes={'a"b': "x"}))) == ['attributes["a\\"b"]']

    def test_an_entry_of_a_map_in_a_list(self) -> None:
        request = product(variants=[{"sku": "A", "options": {"size": ""}}])
        assert 'variants[0].options["size"]' in mistakes(request)

    def test_a_oneof_that_has_to_be_set(self) -> None:
        request = catalog_pb2.AdjustStockRequest(variant_id="x")
        assert mistakes(request)["adjustment"] == "needs one of change, set"

    def test_a_oneof_of_an_item_of_a_list(self) -> None:
        request = order_pb2.CreateOrderRequest(address_id=str(uuid7()))
        request.items.add(quantity=1)
        assert mistakes(request) == {"items[0].item": "needs one of variant_id, product_id"}

    def test_a_rule_about_the_whole_message(self) -> None:
        request = catalog_pb2.ListProductsRequest(order_by="relevance")
        assert mistakes(request) == {"": "order_by relevance needs q"}


class TestNul:
    @pytest.mark.parametrize(
        ("request_", "path"),
        [
            (Thing(text="a\0b"), "text"),
            (UpdateThingRequest(words=["a", "\0"]), "words[1]"),
            (UpdateThingRequest(labels={"a": "\0"}), 'labels["a"]'),
            (UpdateThingRequest(labels={"\0": "a"}), "labels"),
            (UpdateThingRequest(price={"currency_code": "\0"}), "price.currency_code"),
            (UpdateThingRequest(update_mask={"paths": ["\0"]}), "update_mask.paths[0]"),
            (UpdateThingRequest(note="\0"), "note"),
        ],
        ids=["string", "list", "map value", "map key", "message", "mask", "optional"],
    )
    def test_it_is_refused_in(self, request_: Message, path: str) -> None:
        assert mistakes(request_) == {path: "must not hold the character U+0000"}

    def test_a_zero_byte_that_is_no_text_is_fine(self) -> None:
        thing = UpdateThingRequest(size=1 << 14, price={"units": 1 << 21})
        assert b"\0" not in UpdateThingRequest().SerializeToString()
        assert mistakes(thing) == {}

    @given(st.text(), st.lists(st.text()), st.dictionaries(st.text(), st.text()))
    def test_no_nul_gets_past(self, text: str, words: list[str], labels: dict[str, str]) -> None:
        request = UpdateThingRequest(text=text, words=words, labels=labels)
        has_nul = "\0" in "".join([text, *words, *labels.keys(), *labels.values()])
        assert bool(mistakes(request)) == has_nul


def test_at_most_twenty_mistakes_are_named() -> None:
    request = stock_pb2.ReserveStockRequest()
    for _ in range(50):
        request.lines.add()
    assert 0 < len(mistakes(request)) <= 20


def test_rules_are_compiled_before_the_first_call() -> None:
    validation.prepare(catalog_pb2.CreateProductRequest)
