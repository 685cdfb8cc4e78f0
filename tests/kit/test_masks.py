"""Update masks: what a request changes, by AIP-134."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.money_pb2 import Money
from grpc import StatusCode
from hypothesis import given, strategies as st

from services.kit import masks
from services.kit.errors import ServiceError
from shop.errors.v1 import reason_pb2
from tests.kit.things import UpdateThingRequest

SETTABLE = ("text", "size", "note", "price", "words", "labels")

prices = st.builds(Money, currency_code=st.just("USD"), units=st.integers(0, 9))
bodies = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=3),
        "text": st.text(max_size=3),
        "size": st.integers(-3, 3),
        "note": st.text(max_size=3),
        "price": prices,
        "words": st.lists(st.text(max_size=2), max_size=2),
        "labels": st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2),
    },
)
known_paths = st.lists(st.sampled_from(SETTABLE), min_size=1, max_size=8)
any_paths = st.lists(
    st.one_of(st.sampled_from([*SETTABLE, "*", "id", "price.units", "update_mask"]), st.text()),
    max_size=5,
)


def request(body: dict[str, Any], *paths: str) -> Any:
    return UpdateThingRequest(**body, update_mask=FieldMask(paths=paths))


def refusal_of(body: dict[str, Any], *paths: str) -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        masks.changes(request(body, *paths), SETTABLE)
    return raised.value


class TestProperties:
    @given(bodies)
    def test_without_a_mask_what_is_populated_changes(self, body: dict[str, Any]) -> None:
        sent = request(body)
        changes = masks.changes(sent, SETTABLE)
        listed = {field.name for field, _ in sent.ListFields()}
        assert changes.keys() == listed & set(SETTABLE)
        assert all(changes[name] == getattr(sent, name) for name in changes)

    @given(bodies, known_paths)
    def test_a_mask_is_obeyed_to_the_letter(self, body: dict[str, Any], paths: list[str]) -> None:
        assert list(masks.changes(request(body, *paths), SETTABLE)) == list(dict.fromkeys(paths))

    @given(bodies, known_paths)
    def test_what_the_mask_names_and_the_body_lacks_is_cleared(
        self, body: dict[str, Any], paths: list[str]
    ) -> None:
        changes = masks.changes(request(body, *paths), SETTABLE)
        empty = request({})
        for name in changes.keys() - body.keys():
            assert changes[name] == (None if name == "price" else getattr(empty, name))

    @given(bodies)
    def test_a_star_replaces_everything_that_can_be_set(self, body: dict[str, Any]) -> None:
        assert list(masks.changes(request(body, "*"), SETTABLE)) == list(SETTABLE)

    @given(bodies, any_paths)
    def test_any_mask_is_obeyed_or_refused(self, body: dict[str, Any], paths: list[str]) -> None:
        try:
            changes = masks.changes(request(body, *paths), SETTABLE)
        except ServiceError as error:
            assert error.code == StatusCode.INVALID_ARGUMENT
            assert set(paths) - set(SETTABLE)
        else:
            assert changes.keys() <= set(SETTABLE)

    @given(bodies, any_paths)
    def test_a_mask_applied_twice_changes_nothing_more(
        self, body: dict[str, Any], paths: list[str]
    ) -> None:
        try:
            once = masks.changes(request(body, *paths), SETTABLE)
        except ServiceError:
            return
        assert masks.changes(request(body, *paths, *paths), SETTABLE) == once or paths == ["*"]


class TestRefusals:
    def test_a_field_that_is_not_settable(self) -> None:
        refused = refusal_of({"text": "new"}, "text", "id")
        assert refused.reason == reason_pb2.REASON_UNKNOWN_FIELD_IN_MASK
        assert refused.metadata == {"field": "id"}
        assert refused.violations == [("update_mask", "'id' cannot be updated")]
        assert "labels, note, price, size, text, words" in refused.message

    def test_a_part_of_a_field(self) -> None:
        assert refusal_of({}, "price.units").metadata == {"field": "price.units"}

    def test_a_star_among_others(self) -> None:
        assert refusal_of({}, "*", "text").metadata == {"field": "*"}

    def test_a_path_of_any_length_is_refused_in_few_words(self) -> None:
        refused = refusal_of({}, *(f"{'x' * 5000}{number}" for number in range(100)))
        assert len(refused.status().SerializeToString()) < 8192


def test_an_optional_field_that_is_sent_empty_changes() -> None:
    assert masks.changes(request({"note": "", "text": ""}), SETTABLE) == {"note": ""}
