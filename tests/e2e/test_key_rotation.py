"""The key that signs access tokens is changed while everybody calls (promise A5)."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.shop import running
from tests.visitors import Person, Shop, visiting

# How long the edge keeps a copy of the keys, and how long a new one is only published.
CACHE, DELAY = "1", "8"
PATHS = ("/api/users/me/", "/api/cart/", "/api/orders/user/me/")


class Callers:
    """People who call all services with the tokens that they have."""

    def __init__(self, shop: Shop, people: list[Person]) -> None:
        self._shop = shop
        self.people = people
        self.answers: Counter[tuple[str, int]] = Counter()

    async def call(self) -> None:
        """Call for ever, each with every token that is still to be good."""
        paths = itertools.cycle(PATHS)
        while True:
            for person in list(self.people):
                path = next(paths)
                answer = await person.get(path)
                self.answers[path, answer.status_code] += 1
            await asyncio.sleep(0.05)


async def test_no_valid_call_fails(tmp_path_factory: pytest.TempPathFactory) -> None:
    times = {"SHOP_JWKS_CACHE_SECONDS": CACHE, "SHOP_USERS_SIGNING_DELAY_SECONDS": DELAY}
    folder = tmp_path_factory.mktemp("rotation")
    async with running(folder, "--port", "0", "--demo", **times) as up, visiting(up) as shop:
        ada = await shop.sign_up()
        callers = Callers(shop, [ada])
        tasks = [asyncio.create_task(callers.call()) for _ in range(3)]
        (old,) = (up.data / "keys").glob("*.pem")
        new = up.data / "keys" / "the-new-one.pem"
        private = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        new.touch(mode=0o600)
        new.write_bytes(private)
        os.chown(new, old.stat().st_uid, old.stat().st_gid)
        async with asyncio.timeout(90):
            first = kid(ada)
            while kid(signed := await ada.again()) == first:
                await asyncio.sleep(0.2)
        # Tokens of both keys are good now, everywhere.
        callers.people.append(signed)
        await asyncio.sleep(2)
        # When the last token of the old key has expired, it goes.
        callers.people.remove(ada)
        await asyncio.sleep(0.5)
        old.unlink()
        async with asyncio.timeout(90):
            while (await ada.get("/api/users/me/")).status_code == 200:
                await asyncio.sleep(0.2)
        await asyncio.sleep(2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert {status for _, status in callers.answers} == {200}, callers.answers
    assert callers.answers.total() > 100


def kid(person: Person) -> str:
    """The key that signed somebody's token."""
    return str(jwt.get_unverified_header(person.token)["kid"])
