"""The keys that tokens are signed with: how they become known, change, and go."""

from __future__ import annotations

import asyncio
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from grpc import StatusCode

from services.kit import auth
from shop.errors.v1 import reason_pb2
from tests.kit.tokens import refusal_of, signed, tokens
from tests.kit.waiting import until


class Published:
    """A key set that changes, as at a rotation."""

    def __init__(self, *kids: str) -> None:
        self.private = {kid: ec.generate_private_key(ec.SECP256R1()) for kid in kids}
        self.asked = 0
        self.failing = False

    async def __call__(self) -> dict[str, Any]:
        self.asked += 1
        await asyncio.sleep(0.01)
        if self.failing:
            raise OSError
        return {"keys": [self._jwk(kid) for kid in self.private]}

    def _jwk(self, kid: str) -> dict[str, Any]:
        public = self.private[kid].public_key()
        found: dict[str, Any] = jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True)
        return found | {"kid": kid}

    def rotate(self, kid: str) -> None:
        self.private[kid] = ec.generate_private_key(ec.SECP256R1())

    def token(self, kid: str) -> str:
        return signed({"kid": kid}, key=self.private[kid])


class TestRotation:
    async def test_keys_are_fetched_when_first_needed_and_once(self) -> None:
        published = Published("a")
        verifier = tokens(auth.Keys(published))
        await asyncio.gather(*(verifier.verify(published.token("a")) for _ in range(50)))
        assert published.asked == 1

    async def test_a_new_key_is_fetched_once_and_old_tokens_still_hold(self) -> None:
        published = Published("a")
        verifier = tokens(auth.Keys(published, least_seconds_between=0))
        old = published.token("a")
        await verifier.verify(old)
        published.rotate("b")
        await asyncio.gather(*(verifier.verify(published.token("b")) for _ in range(50)))
        assert published.asked == 2
        await verifier.verify(old)

    async def test_tokens_of_a_key_that_is_gone_no_longer_hold(self) -> None:
        published = Published("a", "b")
        keys = auth.Keys(published, least_seconds_between=0)
        verifier = tokens(keys)
        token = published.token("a")
        await verifier.verify(token)
        del published.private["a"]
        await keys.refresh()
        assert (await refusal_of(token, verifier)).reason == reason_pb2.REASON_TOKEN_INVALID

    async def test_a_key_that_changed_under_its_name_is_another(self) -> None:
        published = Published("a")
        keys = auth.Keys(published)
        verifier = tokens(keys)
        token = published.token("a")
        await verifier.verify(token)
        published.rotate("a")
        await keys.refresh()
        await refusal_of(token, verifier)
        await verifier.verify(published.token("a"))

    async def test_unknown_names_do_not_make_us_ask_all_the_time(self) -> None:
        published = Published("a")
        verifier = tokens(auth.Keys(published, least_seconds_between=60))
        for number in range(20):
            await refusal_of(signed({"kid": f"made-up-{number}"}), verifier)
        assert published.asked == 1

    async def test_keys_that_cannot_be_fetched_leave_the_old_ones(self) -> None:
        published = Published("a")
        keys = auth.Keys(published)
        verifier = tokens(keys)
        await verifier.verify(published.token("a"))
        published.failing = True
        await keys.refresh()
        await verifier.verify(published.token("a"))

    @pytest.mark.parametrize("answer", [{}, {"keys": []}, {"keys": [{"kty": "x"}]}, {"keys": 7}])
    async def test_an_answer_without_keys_leaves_the_old_ones(self, answer: Any) -> None:
        published = Published("a")
        answers = [await published(), answer]

        async def fetch() -> Any:
            return answers.pop(0)

        keys = auth.Keys(fetch)
        await keys.refresh()
        await keys.refresh()
        await tokens(keys).verify(published.token("a"))

    async def test_without_any_key_nobody_is_called_a_liar(self) -> None:
        published = Published("a")
        published.failing = True
        refused = await refusal_of(published.token("a"), tokens(auth.Keys(published)))
        assert refused.code == StatusCode.UNAVAILABLE

    async def test_in_the_background_the_set_stays_fresh(self) -> None:
        published = Published("a")
        keys = auth.Keys(published)
        task = asyncio.create_task(keys.refresh_forever(0.02))
        await until(lambda: keys.generation == 1)
        published.rotate("b")
        await until(lambda: keys.generation == 2)
        task.cancel()
        assert await keys.get("b") is not None
