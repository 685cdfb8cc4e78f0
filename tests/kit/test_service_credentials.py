"""What services show each other: what holds, and what does not."""

from __future__ import annotations

import itertools
import time

import jwt
import pytest
from grpc import StatusCode

from services.kit import auth
from services.kit.errors import ServiceError
from shop.errors.v1 import reason_pb2
from tests import callers
from tests.kit.tokens import USER, part


class TestServiceCredential:
    def test_the_service_is_known_by_it(self) -> None:
        token = auth.ServiceCredential("cart", callers.SECRET).token()
        caller = auth.ServiceCredential("order", callers.SECRET).verify(token)
        assert (caller.service, caller.user_id) == ("cart", None)

    def test_while_the_secret_is_replaced_old_and_new_ones_understand_each_other(self) -> None:
        old, new = "o" * 32, "n" * 32
        steps: tuple[tuple[str, ...], ...] = ((old,), (old, new), (new, old), (new,))
        for before, after in itertools.pairwise(steps):
            for one, other in ((before, after), (after, before)):
                token = auth.ServiceCredential("cart", *one).token()
                assert auth.ServiceCredential("order", *other).verify(token).service == "cart"
        for closed, opened in ((old, new), (new, old)):
            with pytest.raises(ServiceError):
                auth.ServiceCredential("order", closed).verify(
                    auth.ServiceCredential("cart", opened).token()
                )

    def test_it_is_made_anew_before_it_expires(self, monkeypatch: pytest.MonkeyPatch) -> None:
        credential = auth.ServiceCredential("cart", callers.SECRET)
        first = credential.token()
        assert credential.token() == first
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + auth.SERVICE_TOKEN_SECONDS / 2 + 1)
        assert credential.token() != first

    def test_one_that_is_remembered_expires_all_the_same(self) -> None:
        credential = auth.ServiceCredential("cart", callers.SECRET)
        soon = {"iss": "cart", "aud": auth.SERVICE_AUDIENCE, "iat": 0, "exp": int(time.time()) + 1}
        token = jwt.encode(soon, callers.SECRET)
        credential.verify(token)
        time.sleep(1.1)
        with pytest.raises(ServiceError):
            credential.verify(token)

    @pytest.mark.parametrize(
        "token",
        [
            "",
            "x",
            "\ud800",
            "ä.ö.ü",
            jwt.encode({"iss": "cart", "aud": auth.SERVICE_AUDIENCE}, callers.SECRET),
            jwt.encode({"iss": "a", "aud": "shop", "iat": 0, "exp": 9**11}, callers.SECRET),
            jwt.encode(
                {"iss": "a", "aud": auth.SERVICE_AUDIENCE, "iat": 0, "exp": 1}, callers.SECRET
            ),
            jwt.encode(
                {"iss": "a", "aud": auth.SERVICE_AUDIENCE, "iat": 0, "exp": 9**11}, "z" * 40
            ),
            f"{part({'alg': 'none'})}.{part({'iss': 'a', 'aud': auth.SERVICE_AUDIENCE})}.",
            callers.access_token(USER, "ADMIN"),
        ],
        ids=[
            "nothing",
            "noise",
            "a surrogate",
            "not base64",
            "no exp",
            "wrong aud",
            "expired",
            "wrong secret",
            "alg none",
            "a user's token",
        ],
    )
    def test_these_do_not_hold(self, token: str) -> None:
        with pytest.raises(ServiceError) as raised:
            auth.ServiceCredential("order", callers.SECRET).verify(token)
        assert raised.value.code == StatusCode.UNAUTHENTICATED
        assert raised.value.reason == reason_pb2.REASON_SERVICE_CREDENTIAL_INVALID
