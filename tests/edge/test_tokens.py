"""Access tokens at the edge (promise A4), and where their keys come from."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from cli.edge import DESCRIPTORS
from cli.rpcs import Rpc, public_rpcs
from cli.topology import SERVICES
from shop.users.v1 import users_pb2
from tests.edge.access_tokens import Key, bearer
from tests.edge.conftest import PATIENCE_SECONDS, Shop, running
from tests.edge.refused import assert_refused, grpc_refused
from tests.edge.test_routes import example

GET_USER = "/shop.users.v1.UserService/GetUser"
RPCS = public_rpcs(DESCRIPTORS.read_bytes(), SERVICES)
NOW = int(time.time())


def _encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def _unsigned(key: Key) -> str:
    _, claims, _ = key.token().split(".")
    return f"{_encoded({'alg': 'none', 'typ': 'JWT'})}.{claims}."


def _signed_with_the_public_key(key: Key) -> str:
    public = key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _, claims, _ = key.token().split(".")
    signed = f"{_encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': key.kid})}.{claims}"
    mac = hmac.new(public, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def _tampered(key: Key) -> str:
    head, claims, signature = key.token().split(".")
    padded = claims + "=" * (-len(claims) % 4)
    changed = {**json.loads(base64.urlsafe_b64decode(padded)), "role": "ADMIN"}
    return f"{head}.{_encoded(changed)}.{signature}"


def _brings_its_own_key(key: Key) -> str:
    mine = Key.make("mine")
    jwk = {name: getattr(mine.jwk, name) for name in ("kty", "crv", "x", "y")}
    headers = {"jwk": jwk, "jku": "http://127.0.0.1:1/jwks.json", "x5u": "http://127.0.0.1:1/x"}
    return mine.token(headers=headers)


INVALID: dict[str, Callable[[Key], str]] = {
    "another issuer": lambda key: key.token(iss="other"),
    "no issuer": lambda key: key.token(iss=None),
    "another audience": lambda key: key.token(aud="other"),
    "no audience": lambda key: key.token(aud=None),
    "no expiry": lambda key: key.token(exp=None),
    "not yet valid": lambda key: key.token(nbf=NOW + 3600),
    "another key of the same name": lambda key: Key.make(key.kid).token(),
    "a key nobody published": lambda key: Key.make("other").token(),
    "no signature": _unsigned,
    "signed with the public key": _signed_with_the_public_key,
    "tampered": _tampered,
    "its own key": _brings_its_own_key,
    "kid that climbs": lambda key: key.token(headers={"kid": "../../../../dev/null"}),
    "kid of 10 KB": lambda key: key.token(headers={"kid": "k" * 10_240}),
    "kid with SQL": lambda key: key.token(headers={"kid": "' OR 1=1 --"}),
    "garbage": lambda _: "garbage",
    "dots": lambda _: "..",
    "three garbage parts": lambda _: "a.b.c",
    "not base64": lambda _: "!!.??.~~",
    "two tokens": lambda key: f"{key.token()},Bearer {key.token()}",
}


class TestBadTokens:
    @pytest.mark.parametrize("what", INVALID)
    async def test_are_refused_where_a_token_is_needed(self, shop: Shop, what: str) -> None:
        headers = bearer(INVALID[what](shop.key))
        answer = await shop.rest("GET", "/api/users/7", headers=headers)
        assert_refused(answer, 401, 16, "TOKEN_INVALID")
        assert answer.headers["www-authenticate"].startswith('Bearer realm="shop", error=')
        assert shop.users.calls == []

    @pytest.mark.parametrize("what", INVALID)
    async def test_are_refused_where_none_is_needed(self, shop: Shop, what: str) -> None:
        headers = bearer(INVALID[what](shop.key))
        answer = await shop.rest("GET", "/api/products/7", headers=headers)
        assert_refused(answer, 401, 16, "TOKEN_INVALID")
        assert shop.catalog.calls == []

    @pytest.mark.parametrize("what", INVALID)
    async def test_are_refused_natively(self, shop: Shop, what: str) -> None:
        with grpc_refused(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID"):
            await shop.grpc(GET_USER, headers=bearer(INVALID[what](shop.key)))
        assert shop.users.calls == []

    async def test_expired_ones_say_so(self, shop: Shop) -> None:
        expired = bearer(shop.key.token(exp=NOW - 60))
        answer = await shop.rest("GET", "/api/products/7", headers=expired)
        assert_refused(answer, 401, 16, "TOKEN_EXPIRED")
        with grpc_refused(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED"):
            await shop.grpc(GET_USER, headers=expired)

    async def test_a_token_that_expires_is_not_remembered_as_good(self, shop: Shop) -> None:
        short = bearer(shop.key.token(exp=int(time.time()) - 2))  # within the clocks' tolerance
        assert (await shop.rest("GET", "/api/users/7", headers=short)).status_code == httpx.codes.OK
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (answer := await shop.rest("GET", "/api/users/7", headers=short)).is_success:
                await asyncio.sleep(0.2)
        assert_refused(answer, 401, 16, "TOKEN_EXPIRED")

    @pytest.mark.parametrize("value", ["Bearer", "Basic dXNlcjpwYXNz", "bearer x", "x"])
    async def test_another_credential_is_none(self, shop: Shop, value: str) -> None:
        answer = await shop.rest("GET", "/api/users/7", headers={"authorization": value})
        assert_refused(answer, 401, 16, "TOKEN_MISSING")

    async def test_two_headers_are_refused(self, shop: Shop) -> None:
        both = [("authorization", f"Bearer {token}") for token in (shop.key.token(), "garbage")]
        for path in ("/api/users/7", "/api/products/7"):
            answer = await shop.rest("GET", path, headers=both)
            assert answer.status_code == httpx.codes.UNAUTHORIZED, answer.text


class TestEveryMethod:
    """What the access option of the contract says, method by method."""

    @pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.name)
    async def test_without_a_token(self, shop: Shop, rpc: Rpc) -> None:
        binding = rpc.bindings[0]
        path, _ = example(binding)
        answer = await shop.rest(binding.verb, path)
        if rpc.credentials == "required":
            assert_refused(answer, 401, 16, "TOKEN_MISSING")
            assert answer.headers["www-authenticate"] == 'Bearer realm="shop"'
            with grpc_refused(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"):
                await shop.grpc(rpc.path)
            assert shop.backends[rpc.service].calls == []
        else:
            assert answer.status_code == httpx.codes.OK
            await shop.grpc(rpc.path)

    @pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.name)
    async def test_with_a_bad_one(self, shop: Shop, rpc: Rpc) -> None:
        binding = rpc.bindings[0]
        path, _ = example(binding)
        answer = await shop.rest(binding.verb, path, headers=bearer("garbage"))
        if rpc.credentials == "ignored":
            assert answer.status_code == httpx.codes.OK
        else:
            assert_refused(answer, 401, 16, "TOKEN_INVALID")

    async def test_a_good_one_goes_on_to_the_service(self, shop: Shop) -> None:
        headers = shop.signed_in
        await shop.rest("GET", "/api/users/7", headers=headers)
        assert shop.users.last.metadata["authorization"] == headers["authorization"]

    async def test_where_it_is_ignored_the_service_does_not_get_it(self, shop: Shop) -> None:
        await shop.rest("POST", "/api/auth/login", json={}, headers=bearer("x" * 15_000))
        assert "authorization" not in shop.users.last.metadata

    async def test_the_query_is_no_place_for_a_token(self, shop: Shop) -> None:
        with grpc_refused(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"):
            await shop.grpc(f"{GET_USER}?access_token={shop.key.token()}")
        answer = await shop.rest("GET", f"/api/users/7?access_token={shop.key.token()}")
        assert_refused(answer, 400, 3, "MALFORMED_REQUEST")


class TestKeys:
    async def test_are_published_as_a_key_set(self, shop: Shop) -> None:
        answer = await shop.rest("GET", "/.well-known/jwks.json")
        jwk = shop.key.jwk
        names = ("kty", "crv", "x", "y", "kid", "use", "alg")
        assert answer.json() == {"keys": [{name: getattr(jwk, name) for name in names}]}

    async def test_arrive_when_users_starts_after_the_edge(self, tmp_path: Path) -> None:
        async with running(tmp_path, start=("catalog",)) as shop:
            answer = await shop.rest("GET", "/api/products/7", headers=shop.signed_in)
            assert_refused(answer, 503, 14, "DEPENDENCY_UNAVAILABLE")
            assert (await shop.rest("GET", "/api/products/7")).status_code == httpx.codes.OK
            await shop.users.start(shop.edge.services["users"][0].port)
            await shop.keys_arrive()
            answer = await shop.rest("GET", "/api/products/7", headers=shop.signed_in)
            assert answer.status_code == httpx.codes.OK

    async def test_are_kept_while_users_is_down(self, tmp_path: Path) -> None:
        async with running(tmp_path, jwks_cache=1) as shop:
            async with asyncio.timeout(60):
                while shop.users.key_fetches < 3:  # for a request, then twice in the background
                    await asyncio.sleep(0.05)
            await shop.users.stop()
            await asyncio.sleep(2.5)
            answer = await shop.rest("GET", "/api/products/7", headers=shop.signed_in)
            assert answer.status_code == httpx.codes.OK
            answer = await shop.rest("GET", "/api/products/7", headers=bearer("garbage"))
            assert_refused(answer, 401, 16, "TOKEN_INVALID")

    async def test_rotate_without_a_restart(self, tmp_path: Path) -> None:
        async with running(tmp_path, jwks_cache=1) as shop:
            new = Key.make("key-2")
            published = [new.jwk, shop.key.jwk]

            async def publish(_: Any, __: Any) -> users_pb2.JsonWebKeySet:
                return users_pb2.JsonWebKeySet(keys=published)

            shop.users.answers["GetJwks"] = publish
            async with asyncio.timeout(60):
                while await _status(shop, new) != httpx.codes.OK:
                    assert await _status(shop, shop.key) == httpx.codes.OK
                    await asyncio.sleep(0.1)
            assert await _status(shop, shop.key) == httpx.codes.OK
            del published[1]
            async with asyncio.timeout(60):
                while await _status(shop, shop.key) != httpx.codes.UNAUTHORIZED:
                    await asyncio.sleep(0.1)
            assert await _status(shop, new) == httpx.codes.OK


async def _status(shop: Shop, key: Key) -> int:
    answer = await shop.rest("GET", "/api/users/7", headers=bearer(key.token()))
    return answer.status_code
