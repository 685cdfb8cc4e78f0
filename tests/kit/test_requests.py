"""Requests are read and checked; of those that read, the ones that were found valid are known."""

from __future__ import annotations

from typing import Any

import pytest

from services.kit import requests, validation
from services.kit.errors import ServiceError
from services.kit.methods import Handler, Method
from shop.catalog.v1 import catalog_pb2
from shop.errors.v1 import reason_pb2

SERVICE = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]


def handler(name: str) -> tuple[Handler, list[Any]]:
    """A method with the layer around it, and the requests that come through."""
    came: list[Any] = []

    async def answered(request: Any, context: Any) -> None:
        came.append(request)

    layer = requests.validate(refuse_card_numbers=False)
    return layer(Method.of(SERVICE.methods_by_name[name]), answered), came


def get(id: str) -> bytes:
    return catalog_pb2.GetProductRequest(id=id).SerializeToString()


async def test_what_is_read_again_is_read_and_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[Any] = []
    check = validation.check

    def counted(request: Any, raw: bytes) -> None:
        checked.append(request)
        check(request, raw)

    monkeypatch.setattr(validation, "check", counted)
    read, came = handler("GetProduct")
    for id in ("lamp", "lamp", "chair", "lamp"):
        await read(get(id), None)
    assert [request.id for request in came] == ["lamp", "lamp", "chair", "lamp"]
    assert [request.id for request in checked] == ["lamp", "chair"]


async def test_what_breaks_a_rule_is_refused_each_time() -> None:
    read, came = handler("GetProduct")
    for _ in range(2):
        with pytest.raises(ServiceError) as refusal:
            await read(get(""), None)
        assert refusal.value.reason == reason_pb2.REASON_VALIDATION_FAILED
        with pytest.raises(ServiceError) as refusal:
            await read(b"\xff", None)
        assert refusal.value.reason == reason_pb2.REASON_MALFORMED_REQUEST
    assert came == []


async def test_so_many_are_known_and_the_first_is_forgotten_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "REMEMBERED", 3)
    read, came = handler("GetProduct")
    for id in ("a", "b", "c", "d", "d", "a"):
        await read(get(id), None)
    assert came[4] is came[3]
    assert came[5] is not came[0]


async def test_what_is_long_is_not_kept() -> None:
    read, came = handler("ListProducts")
    raw = catalog_pb2.ListProductsRequest(q="é" * 199).SerializeToString()
    assert len(raw) > requests.LONGEST_REMEMBERED
    for _ in range(2):
        await read(raw, None)
    assert came[0] is not came[1]


async def test_each_change_has_a_request_of_its_own() -> None:
    change, came = handler("DeleteProduct")
    raw = catalog_pb2.DeleteProductRequest(id="01a2231e-a514-750e-b8b4-1ea7291d5a04")
    for _ in range(2):
        await change(raw.SerializeToString(), None)
    assert came[0] == came[1]
    assert came[0] is not came[1]
