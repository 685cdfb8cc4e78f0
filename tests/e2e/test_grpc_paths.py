"""The same nine methods over gRPC: by stubs, by `buf curl` and by `grpcurl`."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message_factory import GetMessageClass

from services.kit.ids import uuid7
from tests.running import refused
from tests.shop import command
from tests.visitors import PASSWORD, Person, Shop, Visitor, new_address
from tools.contract import DESCRIPTORS

USERS, CATALOG = "shop.users.v1.UserService", "shop.catalog.v1.CatalogService"
STUBS = {USERS: "shop.users.v1.users_pb2_grpc", CATALOG: "shop.catalog.v1.catalog_pb2_grpc"}
PLACES = {USERS: "users", CATALOG: "catalog"}
BUF = Path(sys.executable).with_name("buf")

# Answers in the JSON form of protobuf (camelCase, nothing that has its default).
Call = Callable[[Visitor, str, str, dict[str, Any]], Awaitable[dict[str, Any]]]


class CommandError(Exception):
    """A command ended badly, and said this."""


def by_stub(shop: Shop) -> Call:
    """A program with generated stubs, at the edge."""

    async def call(
        who: Visitor, service: str, method: str, request: dict[str, Any]
    ) -> dict[str, Any]:
        module = importlib.import_module(STUBS[service])
        stub = getattr(module, f"{service.rpartition('.')[2]}Stub")(shop.channel)
        kind = GetMessageClass(_method(service, method).input_type)
        message = json_format.ParseDict(request, kind())
        answer = await getattr(stub, method)(message, metadata=tuple(_headers(who).items()))
        found: dict[str, Any] = json_format.MessageToDict(answer)
        return found

    return call


def by_buf(shop: Shop, *, reflection: bool) -> Call:
    """`buf curl`: at the service's own port by reflection, or at the edge by the schema."""

    async def call(
        who: Visitor, service: str, method: str, request: dict[str, Any]
    ) -> dict[str, Any]:
        if reflection:
            base, schema = f"http://{shop.ready.services[PLACES[service]]}", []
        else:
            base, schema = shop.ready.edge, ["--schema", str(DESCRIPTORS)]
        headers = [part for item in _headers(who).items() for part in ("-H", ": ".join(item))]
        protocol = ["--protocol", "grpc", "--http2-prior-knowledge"]
        options = [*protocol, *schema, *headers, "-d", json.dumps(request)]
        return await _run(service, method, BUF, "curl", *options, f"{base}/{service}/{method}")

    return call


def by_grpcurl(shop: Shop) -> Call:
    """`grpcurl` at the service's own port, by reflection."""
    grpcurl = shutil.which("grpcurl")
    if grpcurl is None:
        pytest.skip("grpcurl is not installed here: its half of the promise is not tested")

    async def call(
        who: Visitor, service: str, method: str, request: dict[str, Any]
    ) -> dict[str, Any]:
        headers = [part for item in _headers(who).items() for part in ("-H", ": ".join(item))]
        options = ["-plaintext", *headers, "-d", json.dumps(request)]
        address = shop.ready.services[PLACES[service]]
        return await _run(service, method, grpcurl, *options, address, f"{service}/{method}")

    return call


WAYS: dict[str, Callable[[Shop], Call]] = {
    "stub": by_stub,
    "buf-reflection": lambda shop: by_buf(shop, reflection=True),
    "buf-schema": lambda shop: by_buf(shop, reflection=False),
    "grpcurl": by_grpcurl,
}


@pytest.fixture(params=WAYS)
def call(shop: Shop, request: pytest.FixtureRequest) -> Call:
    """One way to call a method by its name."""
    return WAYS[request.param](shop)


async def test_users(shop: Shop, call: Call) -> None:
    email = new_address()
    user = await call(shop.nobody, USERS, "CreateUser", {"email": email, "password": PASSWORD})
    assert user.keys() == {"id", "email", "role", "createTime", "updateTime", "etag"}
    assert (user["email"], user["role"]) == (email, "CUSTOMER")

    ada = await Person.signed_in(shop.http, email, PASSWORD)
    assert await call(ada, USERS, "GetUser", {"id": "me"}) == user

    changed = await call(
        ada, USERS, "UpdateUser", {"id": ada.id, "fullName": "Ada", "etag": user["etag"]}
    )
    assert changed["fullName"] == "Ada"

    assert await call(ada, USERS, "DeleteUser", {"id": "me"}) == {}
    with pytest.raises((CommandError, grpc.aio.AioRpcError), match=r"(?i)not.?found"):
        await call(shop.staff, USERS, "GetUser", {"id": ada.id})


async def test_products(shop: Shop, call: Call) -> None:
    stone = uuid7().hex
    new = {
        "name": "A lamp",
        "price": {"currencyCode": "EUR", "units": "20"},
        "stock": 7,
        "attributes": {"stone": stone},
    }
    made = await call(shop.staff, CATALOG, "CreateProduct", new)
    assert (made["price"], made["available"]) == (new["price"], 7)
    assert made["variants"][0]["onHand"] == 7

    found = await call(shop.nobody, CATALOG, "GetProduct", {"id": made["slug"]})
    assert found["id"] == made["id"]
    assert "onHand" not in found["variants"][0]

    change = {"id": made["id"], "name": "Another lamp", "etag": made["etag"]}
    changed = await call(shop.staff, CATALOG, "UpdateProduct", change)
    assert changed["name"] == "Another lamp"

    listed = {"attributes": [f"stone={stone}"], "pageSize": 1}
    page = await call(shop.nobody, CATALOG, "ListProducts", listed)
    assert [product["name"] for product in page["products"]] == ["Another lamp"]

    archived = await call(shop.staff, CATALOG, "DeleteProduct", {"id": made["id"]})
    assert archived["state"] == "ARCHIVED"
    assert await call(shop.nobody, CATALOG, "ListProducts", listed) == {}


async def test_refusals_carry_their_details(shop: Shop) -> None:
    call = by_stub(shop)
    with refused(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"):
        await call(shop.nobody, USERS, "GetUser", {"id": "me"})
    ada = await shop.sign_up()
    with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED") as refusal:
        await call(ada, CATALOG, "CreateProduct", {"name": "A lamp"})
    assert refusal[0].metadata == {"role": "STAFF"}
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
        await call(shop.staff, CATALOG, "CreateProduct", {"price": {"currencyCode": "EUR"}})
    assert refusal[0].fields.keys() == {"name"}


async def test_a_create_says_201_and_where(shop: Shop) -> None:
    from shop.catalog.v1 import catalog_pb2, catalog_pb2_grpc

    stub = catalog_pb2_grpc.CatalogServiceStub(shop.channel)
    request = catalog_pb2.CreateProductRequest(name="A lamp")
    request.price.currency_code = "EUR"
    calling = stub.CreateProduct(request, metadata=tuple(_headers(shop.staff).items()))
    product = await calling
    assert dict(await calling.initial_metadata())["location"] == f"/api/products/{product.id}/"


def _headers(who: Visitor) -> dict[str, str]:
    return {"authorization": f"Bearer {who.token}"} if who.token else {}


async def _run(service: str, method: str, *parts: str | Path) -> dict[str, Any]:
    ended = await command(*parts)
    if ended.returncode:
        raise CommandError(ended.stderr)
    # Read and written again: tools differ in how they spell the names of fields.
    answer = json_format.Parse(
        ended.stdout, GetMessageClass(_method(service, method).output_type)()
    )
    found: dict[str, Any] = json_format.MessageToDict(answer)
    return found


def _method(service: str, method: str) -> Any:
    return descriptor_pool.Default().FindMethodByName(f"{service}.{method}")
