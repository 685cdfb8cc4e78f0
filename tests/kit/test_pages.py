"""Pages: tokens lead through a list without gaps, and only through the list that gave them."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import UUID

import pytest
from grpc import StatusCode
from hypothesis import given, strategies as st

from services.kit import pages
from services.kit.errors import ServiceError
from services.kit.ids import uuid7
from shop.catalog.v1.catalog_pb2 import ListProductsRequest
from shop.errors.v1 import reason_pb2


def token_of(request: Any, *key: Any) -> str:
    """The token after a page that ended with this key."""
    _, token = pages.cut(request, [key] * (pages.size(request) + 1), lambda row: row)
    assert token
    return token


def forged(*parts: Any, request: Any = None, raw: bytes | None = None) -> str:
    """A token as an attacker makes it who has read our source."""
    if request is not None:
        first = json.loads(base64.urlsafe_b64decode(token_of(request, 0) + "=="))[0]
        parts = (first, *parts)
    text = raw if raw is not None else json.dumps(parts).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def refused(token: str, *shape: type, **fields: Any) -> None:
    with pytest.raises(ServiceError) as raised:
        pages.start(ListProductsRequest(page_token=token, **fields), *shape)
    assert raised.value.code == StatusCode.INVALID_ARGUMENT
    assert raised.value.reason == reason_pb2.REASON_INVALID_PAGE_TOKEN


class TestPaging:
    @given(st.lists(st.tuples(st.text(), st.integers()), max_size=30), st.integers(1, 7))
    def test_page_by_page_every_row_comes_once(
        self, rows: list[tuple[str, int]], page_size: int
    ) -> None:
        rows = sorted(set(rows))
        seen: list[tuple[str, int]] = []
        request = ListProductsRequest(page_size=page_size)
        while True:
            left = [row for row in rows if not seen or row > seen[-1]]
            page, request.page_token = pages.cut(
                request, left[: pages.size(request) + 1], lambda row: row
            )
            seen += page
            if not request.page_token:
                break
        assert seen == rows

    def test_no_size_is_the_usual_size(self) -> None:
        assert pages.size(ListProductsRequest()) == 50
        assert pages.size(ListProductsRequest(page_size=7)) == 7

    def test_the_first_page_starts_nowhere(self) -> None:
        assert pages.start(ListProductsRequest(), int) is None

    def test_a_last_page_that_is_full_has_no_next(self) -> None:
        page, token = pages.cut(ListProductsRequest(page_size=2), [1, 2], lambda row: [row])
        assert (page, token) == ([1, 2], "")


class TestTokens:
    def test_every_kind_of_key_comes_back_as_it_went(self) -> None:
        id = uuid7()
        request = ListProductsRequest(q="tea")
        request.page_token = token_of(request, "ä\"'", -3, 0.25, True, id)
        assert pages.start(request, str, int, float, bool, UUID) == ["ä\"'", -3, 0.25, True, id]

    def test_another_page_size_is_the_same_list(self) -> None:
        token = token_of(ListProductsRequest(page_size=2), 5)
        assert pages.start(ListProductsRequest(page_size=9, page_token=token), int) == [5]

    def test_another_filter_is_another_list(self) -> None:
        refused(token_of(ListProductsRequest(q="tea"), 5), int, q="coffee")

    def test_another_order_is_another_list(self) -> None:
        refused(token_of(ListProductsRequest(order_by="price"), 5), int, order_by="name")


class TestForgeries:
    @pytest.mark.parametrize("token", ["x", "====", "é", "A" * 1024, "null", " ", "-_-_"])
    def test_noise_is_refused(self, token: str) -> None:
        refused(token, int)

    @given(st.text(max_size=40))
    def test_any_noise_is_refused(self, token: str) -> None:
        if token:
            refused(token, int)

    @pytest.mark.parametrize("raw", [b"7", b"{}", b'"ab"', b"null", b"[]", b"\xff\xfe", b"NaN"])
    def test_other_json_is_refused(self, raw: bytes) -> None:
        refused(forged(raw=raw), int)

    def test_json_that_is_too_deep_is_refused(self) -> None:
        refused(forged(raw=b"[" * 100_000), int)

    def test_numbers_of_many_digits_are_refused(self) -> None:
        refused(forged(raw=b'["x",' + b"9" * 10_000 + b"]"), int)

    @pytest.mark.parametrize(
        ("part", "kind"),
        [
            ("text", int),
            (1, str),
            (True, int),
            (1, bool),
            (1, float),
            (None, str),
            ([1], int),
            ("not a uuid", UUID),
            (7, UUID),
            (2**63, int),
            (-(2**63) - 1, int),
            (float("nan"), float),
            (float("inf"), float),
            ("nul\0", str),
            ("\ud800", str),
        ],
    )
    def test_what_postgres_would_refuse_is_refused_here(self, part: Any, kind: type) -> None:
        refused(forged(part, request=ListProductsRequest()), kind)

    @pytest.mark.parametrize("parts", [(), (1,), (1, 2, 3)])
    def test_a_key_of_another_length_is_refused(self, parts: tuple[int, ...]) -> None:
        refused(forged(*parts, request=ListProductsRequest()), int, int)
