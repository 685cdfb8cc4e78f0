"""Promise A4: access tokens that somebody made up, through the service itself."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc import StatusCode

from services.kit.ids import uuid7
from shop.users.v1.users_pb2 import DeleteUserRequest, GetUserRequest
from tests.running import refused
from tests.users.people import People, Person, Served

Claims = dict[str, Any]


class Forger:
    """Knows everything about tokens but the private key."""

    def __init__(self, person: Person, key: ec.EllipticCurvePrivateKey) -> None:
        self.real = person.grant.access_token
        self.key = key
        self.kid: str = jwt.get_unverified_header(self.real)["kid"]
        self.claims: Claims = jwt.decode(self.real, options={"verify_signature": False})
        self.header, self.payload, self.signature = self.real.split(".")
        self.public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, *, key: Any = None, headers: Claims | None = None, **claims: Any) -> str:
        """A token by the service's key, or another, with some claims replaced; None drops one."""
        payload = {
            name: value for name, value in (self.claims | claims).items() if value is not None
        }
        return jwt.encode(
            payload, key or self.key, algorithm="ES256", headers={"kid": self.kid} | (headers or {})
        )

    def hs256(self) -> str:
        """Signed as if the public key were a shared secret; PyJWT itself refuses to make that."""
        header = {"alg": "HS256", "typ": "JWT", "kid": self.kid}
        head = f"{_encoded(header)}.{self.payload}"
        return f"{head}.{_base64(hmac.digest(self.public, head.encode(), 'sha256'))}"

    def unsigned(self, **header: Any) -> str:
        """The real claims under any header, with the real signature."""
        return (
            f"{_encoded({'kid': self.kid, 'typ': 'JWT'} | header)}.{self.payload}.{self.signature}"
        )


OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_JWK = jwt.algorithms.ECAlgorithm.to_jwk(OTHER_KEY.public_key(), as_dict=True)

FORGERIES: dict[str, Callable[[Forger], str]] = {
    "alg none": lambda f: f"{_encoded({'alg': 'none', 'kid': f.kid})}.{f.payload}.",
    "alg none, signature kept": lambda f: f.unsigned(alg="none"),
    "no alg": lambda f: f.unsigned(),
    "HS256 with the public key": lambda f: f.hs256(),
    "ES384 said": lambda f: f.unsigned(alg="ES384"),
    "another key": lambda f: f.sign(key=OTHER_KEY),
    "another key, its jwk in the header": lambda f: f.sign(
        key=OTHER_KEY, headers={"jwk": OTHER_JWK}
    ),
    "another key, a jku": lambda f: f.sign(
        key=OTHER_KEY, headers={"jku": "https://evil.example/keys"}
    ),
    "another key, an x5u": lambda f: f.sign(
        key=OTHER_KEY, headers={"x5u": "https://evil.example/c"}
    ),
    "another key, an x5c": lambda f: f.sign(key=OTHER_KEY, headers={"x5c": ["AAAA"]}),
    "kid that climbs": lambda f: f.sign(headers={"kid": "../../../../dev/null"}),
    "kid with quotes": lambda f: f.sign(headers={"kid": "' OR 1=1 --"}),
    "kid of 10 KB": lambda f: f.sign(headers={"kid": "x" * 10_000}),
    "kid that is a number": lambda f: f.unsigned(alg="ES256", kid=1),
    "kid that is a list": lambda f: f.unsigned(alg="ES256", kid=[f.kid]),
    "no kid": lambda f: f.unsigned(alg="ES256", kid=None),
    "expired": lambda f: f.sign(exp=int(time.time()) - 1),
    "expired long ago": lambda f: f.sign(exp=0),
    "no exp": lambda f: f.sign(exp=None),
    "exp that is text": lambda f: f.sign(exp="tomorrow"),
    "exp that is endless": lambda f: f.sign(exp=float("inf")),
    "not before later": lambda f: f.sign(nbf=int(time.time()) + 3600),
    "another issuer": lambda f: f.sign(iss="evil"),
    "no issuer": lambda f: f.sign(iss=None),
    "another audience": lambda f: f.sign(aud="shop-services"),
    "a list of audiences": lambda f: f.sign(aud=["shop", "other"]),
    "no audience": lambda f: f.sign(aud=None),
    "no subject": lambda f: f.sign(sub=None),
    "a subject that is no id": lambda f: f.sign(sub="me"),
    "a role that there is not": lambda f: f.sign(role="OWNER"),
    "a role that is a list": lambda f: f.sign(role=["ADMIN"]),
    "no role": lambda f: f.sign(role=None),
    "no session": lambda f: f.sign(sid=None),
    "no token id": lambda f: f.sign(jti=None),
    "role changed afterwards": lambda f: (
        f"{f.header}.{_encoded(f.claims | {'role': 'ADMIN'})}.{f.signature}"
    ),
    "signature cut off": lambda f: f"{f.header}.{f.payload}.",
    "signature cut short": lambda f: f.real[:-4],
    "two parts": lambda f: f"{f.header}.{f.payload}",
    "four parts": lambda f: f"{f.real}.{f.signature}",
    "nothing": lambda f: "",
    "dots": lambda f: "..",
    "no base64": lambda f: "é.ü.ö".encode("ascii", "replace").decode(),
    "payload that is no JSON": lambda f: f"{f.header}.AAAA.{f.signature}",
    "payload that is a list": lambda f: f"{f.header}.{_encoded([])}.{f.signature}",
    "header that is a list": lambda f: f"{_encoded([])}.{f.payload}.{f.signature}",
    "deep header": lambda f: f"{_base64(b'[' * 2000)}.{f.payload}.{f.signature}",
    "a refresh token": lambda f: "00" * 48,
}


class TestForgedTokens:
    async def test_the_forger_can_make_the_real_thing(self, forger: Forger, served: Served) -> None:
        """So that the others are refused for what they say is wrong with them."""
        await get_me(served, f"Bearer {forger.sign()}")

    @pytest.mark.parametrize("forgery", FORGERIES)
    async def test_it_is_refused(self, forger: Forger, served: Served, forgery: str) -> None:
        reason = "TOKEN_EXPIRED" if forgery.startswith("expired") else "TOKEN_INVALID"
        with refused(StatusCode.UNAUTHENTICATED, reason):
            await get_me(served, f"Bearer {FORGERIES[forgery](forger)}")

    @pytest.mark.parametrize("scheme", ["", "Basic ", "Bearer", "Token ", "Bearer Bearer "])
    async def test_another_scheme_is_refused(
        self, forger: Forger, served: Served, scheme: str
    ) -> None:
        with refused(StatusCode.UNAUTHENTICATED, "TOKEN_INVALID"):
            await get_me(served, f"{scheme}{forger.real}")

    async def test_the_scheme_is_read_in_any_case(self, forger: Forger, served: Served) -> None:
        await get_me(served, f"bearer {forger.real}")

    async def test_none_at_all_is_missing(self, served: Served) -> None:
        with refused(StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"):
            await served.users.GetUser(GetUserRequest(id="me"))

    async def test_a_token_of_a_session_that_is_somebody_elses_opens_nothing_sensitive(
        self, forger: Forger, people: People, served: Served
    ) -> None:
        """Even a holder of the key cannot borrow a session."""
        admin = await people.sign_up("ADMIN")
        token = forger.sign(sub=str(admin.id), role="ADMIN", jti=str(uuid7()))
        with refused(StatusCode.UNAUTHENTICATED, "SESSION_ENDED"):
            await served.users.DeleteUser(
                DeleteUserRequest(id="me"), metadata=(("authorization", f"Bearer {token}"),)
            )


async def get_me(served: Served, authorization: str) -> None:
    await served.users.GetUser(
        GetUserRequest(id="me"), metadata=(("authorization", authorization),)
    )


def _encoded(value: object) -> str:
    return _base64(json.dumps(value).encode())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest_asyncio.fixture
async def forger(people: People, signing_key: ec.EllipticCurvePrivateKey) -> Forger:
    """Somebody with a real token of a customer."""
    return Forger(await people.sign_up(), signing_key)
