"""Access tokens and service credentials: what holds, what does not, and keys that change."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from grpc import StatusCode
from hypothesis import given, strategies as st

from services.kit import auth
from services.kit.errors import ServiceError
from services.kit.ids import uuid7
from shop.errors.v1 import reason_pb2
from shop.options.v1 import access_pb2
from tests import callers
from tests.kit.tokens import (
    STRANGER,
    USER,
    claims,
    confused,
    embedded,
    part,
    refusal_of,
    rsa_signed,
    signed,
    tokens,
    unsigned,
)

REFUSED: dict[str, Callable[[], str]] = {
    "nothing": lambda: "",
    "one dot": lambda: ".",
    "two dots": lambda: "..",
    "not base64": lambda: "ä.ö.ü",
    "a surrogate": lambda: "\ud800.a.b",
    "alg none": lambda: unsigned({"alg": "none", "kid": callers.KID}),
    "alg none, any case": lambda: unsigned({"alg": "nOnE", "kid": callers.KID}),
    "no alg": lambda: unsigned({"kid": callers.KID}),
    "alg that is no text": lambda: unsigned({"alg": ["ES256"], "kid": callers.KID}),
    "HS256 with the public key": confused,
    "RS256": rsa_signed,
    "wrong key": lambda: signed({}, key=STRANGER),
    "no signature": lambda: unsigned({"alg": "ES256", "kid": callers.KID}),
    "half a signature": lambda: unsigned({"alg": "ES256", "kid": callers.KID}, b"x" * 32),
    "zero signature": lambda: unsigned({"alg": "ES256", "kid": callers.KID}, bytes(64)),
    "jwk header": lambda: embedded("jwk"),
    "jku header": lambda: embedded("jku"),
    "x5u header": lambda: embedded("x5u"),
    "critical extension": lambda: signed({"crit": ["exp2"], "exp2": 1}),
    "no kid": lambda: unsigned({"alg": "ES256"}, b"x" * 64),
    "unknown kid": lambda: signed({"kid": "other"}),
    "kid that climbs": lambda: signed({"kid": "../../../../etc/passwd"}),
    "kid with SQL": lambda: signed({"kid": "' OR 1=1 --"}),
    "kid of 10 KB": lambda: signed({"kid": "k" * 10_240}),
    "kid that is no text": lambda: unsigned({"alg": "ES256", "kid": {"a": 1}}, b"x" * 64),
    "header that is no object": lambda: f"{part([1])}.{part(claims())}.{part(b'x')}",
    "header too deep": lambda: f"{part(b'[' * 2500)}.{part(claims())}.",
    "claims that are no object": lambda: jwt.api_jws.encode(
        b"[1]", callers.KEY, algorithm="ES256", headers={"kid": callers.KID}
    ),
    "no exp": lambda: signed({}, exp=None),
    "exp that is no number": lambda: signed({}, exp="never"),
    "no iss": lambda: signed({}, iss=None),
    "wrong iss": lambda: signed({}, iss="shop2"),
    "empty iss": lambda: signed({}, iss=""),
    "no aud": lambda: signed({}, aud=None),
    "wrong aud": lambda: signed({}, aud="shop-services"),
    "several aud": lambda: signed({}, aud=["shop", "other"]),
    "no sub": lambda: signed({}, sub=None),
    "sub that is no id": lambda: signed({}, sub="root"),
    "no role": lambda: signed({}, role=None),
    "unknown role": lambda: signed({}, role="OWNER"),
    "no session": lambda: signed({}, sid=None),
    "not yet valid": lambda: signed({}, nbf=int(time.time()) + 600),
    "a service's credential": lambda: auth.ServiceCredential("x", callers.SECRET).token(),
}


class TestAccessTokens:
    async def test_a_good_one_tells_who_calls(self) -> None:
        session = uuid7()
        token = callers.access_token(USER, "ADMIN", sid=str(session))
        caller = await tokens().verify(token)
        assert (caller.user_id, caller.session_id) == (USER, session)
        assert caller.role == access_pb2.ACCESS_ADMIN
        assert caller.is_staff

    @pytest.mark.parametrize("what", REFUSED)
    async def test_these_do_not_hold(self, what: str) -> None:
        refused = await refusal_of(REFUSED[what]())
        assert refused.code == StatusCode.UNAUTHENTICATED
        assert refused.reason == reason_pb2.REASON_TOKEN_INVALID

    async def test_an_expired_one_says_so(self) -> None:
        refused = await refusal_of(callers.access_token(USER, "CUSTOMER", exp=int(time.time()) - 1))
        assert refused.reason == reason_pb2.REASON_TOKEN_EXPIRED

    async def test_one_that_expires_while_remembered_says_so(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        verifier = tokens()
        token = callers.access_token(USER, "CUSTOMER")
        for _ in range(2):  # the first has the keys fetched
            await verifier.verify(token)
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 601)
        assert (await refusal_of(token, verifier)).reason == reason_pb2.REASON_TOKEN_EXPIRED

    async def test_a_maker_whose_clock_is_ahead_is_believed(self) -> None:
        ahead = callers.access_token(USER, "CUSTOMER", iat=int(time.time()) + 30)
        assert (await tokens().verify(ahead)).user_id == USER

    async def test_a_verified_one_is_remembered_but_not_for_ever(self) -> None:
        verifier = tokens(remembered=3)
        made = [callers.access_token(uuid7(), "CUSTOMER") for _ in range(5)]
        await verifier.verify(made[0])  # has the keys fetched
        for token in made:
            first = await verifier.verify(token)
            assert await verifier.verify(token) is first
        assert len(verifier._known) == 3

    @given(st.text(max_size=200))
    async def test_any_text_is_refused_as_invalid(self, token: str) -> None:
        refused = await refusal_of(token)
        assert refused.reason == reason_pb2.REASON_TOKEN_INVALID

    @given(header=st.dictionaries(st.text(max_size=4), st.integers() | st.text()), tail=st.binary())
    async def test_any_header_is_refused_as_invalid(
        self, header: dict[str, Any], tail: bytes
    ) -> None:
        refused = await refusal_of(unsigned({"alg": "ES256"} | header, tail))
        assert refused.reason == reason_pb2.REASON_TOKEN_INVALID


class TestAuthorization:
    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    async def test_the_scheme_may_be_written_in_any_case(self, scheme: str) -> None:
        authenticator = auth.Authenticator(tokens(), auth.ServiceCredential("x", callers.SECRET))
        token = callers.access_token(USER, "CUSTOMER")
        assert (await authenticator.user(f"{scheme} {token}")).user_id == USER

    @pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Basic dTpw", "x", " "])
    async def test_other_headers_are_refused(self, header: str) -> None:
        authenticator = auth.Authenticator(tokens(), auth.ServiceCredential("x", callers.SECRET))
        with pytest.raises(ServiceError) as raised:
            await authenticator.user(header)
        assert raised.value.reason == reason_pb2.REASON_TOKEN_INVALID
