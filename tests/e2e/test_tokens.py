"""Access tokens that are not good (promise A4): 401, at the edge and at the services behind it."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from services.kit.ids import uuid7
from tests.e2e.asks import PUBLIC, ask_grpc
from tests.edge.access_tokens import Key
from tests.edge.test_tokens import INVALID
from tests.refusals import refused
from tests.visitors import Shop, Visitor, answered, euros

METHODS = {method.name: method for method in PUBLIC}
GET_USER = METHODS["shop.users.v1.UserService.GetUser"]
CREATE_PRODUCT = METHODS["shop.catalog.v1.CatalogService.CreateProduct"]
PRODUCT = {"name": "x", "price": euros(1)}

# Signed as it should be, by the shop's own key; only these claims are strange.
STRANGE: dict[str, Callable[[Key], str]] = {
    "no subject": lambda key: key.token(sub=None),
    "a subject that is no id": lambda key: key.token(sub="admin"),
    "SQL for a subject": lambda key: key.token(sub="' OR 1=1 --"),
    "no role": lambda key: key.token(role=None),
    "a role that is none": lambda key: key.token(role="KING"),
    "a list of roles": lambda key: key.token(role=["ADMIN"]),
    "no session": lambda key: key.token(sid=None),
    "a session that is no id": lambda key: key.token(sid="x"),
    "several audiences": lambda key: key.token(aud=["shop", "other"]),
    "no id": lambda key: key.token(jti=None),
}


@pytest.fixture
async def key(shop: Shop) -> Key:
    """The key by which the shop signs."""
    (published,) = answered(await shop.nobody.get("/.well-known/jwks.json"))["keys"]
    (path,) = (shop.up.data / "keys").glob("*.pem")
    private = load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return Key(published["kid"], private)


async def test_a_good_one_is_let_in(shop: Shop, key: Key) -> None:
    visitor = Visitor(shop.http, key.token(sub=shop.staff.id, role="STAFF"))
    assert answered(await visitor.get("/api/users/me/"))["id"] == shop.staff.id


@pytest.mark.parametrize("what", [*INVALID, *STRANGE])
async def test_bad_ones_are_refused(shop: Shop, key: Key, what: str) -> None:
    token = (INVALID | STRANGE)[what](key)
    for answer in (
        await bearer(shop, "GET", "/api/users/me/", token),
        await bearer(shop, "GET", "/api/products/", token),
        await bearer(shop, "POST", "/api/products/", token),
    ):
        refused(answer, "TOKEN_INVALID")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert await natively(shop, token) == ["TOKEN_INVALID"] * 4


async def test_an_expired_one_says_so(shop: Shop, key: Key) -> None:
    token = key.token(sub=shop.staff.id, role="STAFF", exp=int(time.time()) - 60)
    refused(await bearer(shop, "GET", "/api/users/me/", token), "TOKEN_EXPIRED")
    assert await natively(shop, token) == ["TOKEN_EXPIRED"] * 4


async def test_where_none_is_looked_at_a_bad_one_does_no_harm(shop: Shop) -> None:
    ada = await shop.sign_up()
    body = {"email": ada.email, "password": ada.password}
    answered(await Visitor(shop.http, "garbage").post("/api/auth/login/", body))


async def bearer(shop: Shop, verb: str, path: str, token: str) -> httpx.Response:
    """A REST call with a token, which may be empty."""
    headers = {"authorization": f"Bearer {token}"}
    return await shop.nobody.call(verb, path, PRODUCT if verb == "POST" else None, headers=headers)


async def natively(shop: Shop, token: str) -> list[str]:
    """Why native calls with a token are refused: at the edge, and at the services themselves."""
    reasons = []
    edge = shop.ready.edge.removeprefix("http://")
    for name, method, fields in (
        ("users", GET_USER, {"id": str(uuid7())}),
        ("catalog", CREATE_PRODUCT, PRODUCT),
    ):
        for address in (edge, shop.ready.services[name]):
            async with grpc.aio.insecure_channel(address) as channel:
                headers = {"authorization": f"Bearer {token}"}
                reasons.append(await ask_grpc(channel, method, fields, headers))
    return reasons
