"""Ten thousand answers to random requests (promise A14): typed, no fault of ours, nothing told."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import grpc
import pytest

from tests.contract import Method
from tests.e2e.asks import PUBLIC
from tests.e2e.fuzz import Fuzz
from tests.refusals import HTTP, documented, gives_away
from tests.running import refusal_of
from tests.visitors import Person, Shop, Visitor

REST, NATIVE = 2_000, 8_000
AT_ONCE = 12
# Their good answers cost a hash of a password each.
SLOW = ("Login", "ChangePassword", "ConfirmPasswordReset", "CreateUser")
# Whoever makes these calls for themselves is gone after the first good one.
LAST = ("Logout", "DeleteUser", "SetUserDisabled", "SetUserRole")


@pytest.fixture
async def people(shop: Shop) -> list[Visitor]:
    """Those who call: of every role, and nobody."""
    return [shop.nobody, *[await shop.sign_up(role) for role in ("CUSTOMER", "STAFF", "ADMIN")]]


@pytest.fixture
async def ids(shop: Shop, people: list[Visitor]) -> list[str]:
    """Ids of things that there are, and that others do not need."""
    product = await shop.new_product()
    persons = [person.id for person in people if isinstance(person, Person)]
    return [product["id"], product["slug"], product["default_variant_id"], *persons]


@pytest.fixture(autouse=True)
async def no_fault_in_the_logs(shop: Shop) -> AsyncIterator[None]:
    """No service logs an error meanwhile."""
    before = len(shop.up.text())
    yield
    assert not re.search(r'"level": "(error|critical)"', shop.up.text()[before:])


async def many(count: int, once: Callable[[], Awaitable[None]]) -> None:
    """Do it so many times, some at a time."""
    numbers = iter(range(count))

    async def work() -> None:
        for _ in numbers:
            await once()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


def choose(fuzz: Fuzz, people: list[Visitor], disposable: Visitor) -> tuple[Method, Visitor]:
    """What to call, and who does it."""
    method: Method = fuzz.choice(PUBLIC)
    if method.proto.name in SLOW and fuzz.choice(range(4)):
        return choose(fuzz, people, disposable)
    who: Visitor = fuzz.choice(people)
    return method, disposable if method.proto.name in LAST else who


async def test_rest(shop: Shop, people: list[Visitor], ids: list[str]) -> None:
    fuzz, seen = Fuzz(1, ids), Counter[str]()
    disposable = await shop.sign_up()

    async def once() -> None:
        method, who = choose(fuzz, people, disposable)
        verb, template, body = fuzz.choice(list(method.bindings()))
        fields = fuzz.fields(method)
        path = re.sub(r"\{(\w+)\}", lambda found: segment(fields.pop(found[1], "x")), template)
        query = {} if body else {name: plain(value) for name, value in fields.items()}
        answer = await who.call(
            verb.upper(), path, fields if body else None, query=query, headers=headers(fuzz)
        )
        what = (verb, path, fields, answer.status_code, answer.text)
        assert answer.status_code < 500, what
        assert answer.headers["content-type"] == "application/json", what
        if answer.status_code >= 400:
            told = answer.json()
            reason = told["details"][0]["reason"]
            assert told["code"] == documented()[reason].code.value[0], what
            assert answer.status_code in (HTTP[documented()[reason].code], 405, 413, 431), what
            assert not gives_away(answer.text), what
        seen[str(answer.status_code)] += 1

    await many(REST, once)
    assert seen.total() == REST
    assert seen["200"] + seen["201"] > REST / 20, seen
    assert seen["400"] > REST / 5, seen


async def test_grpc(shop: Shop, people: list[Visitor], ids: list[str]) -> None:
    fuzz, seen = Fuzz(2, ids), Counter[str]()
    disposable = await shop.sign_up()

    async def once() -> None:
        method, who = choose(fuzz, people, disposable)
        raw = fuzz.raw(method)
        sent = {"authorization": f"Bearer {who.token}"} if who.token else {}
        call: Any = shop.channel.unary_unary(f"/{method.service}/{method.proto.name}")
        try:
            await call(raw, metadata=tuple((sent | headers(fuzz)).items()), timeout=5)
        except grpc.aio.AioRpcError as error:
            refusal, what = refusal_of(error), (method.name, raw, error)
            assert refusal.reason in documented(), what
            assert error.code() == documented()[refusal.reason].code, what
            assert error.code() not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), what
            assert not gives_away(refusal.message), what
            seen[refusal.reason] += 1
        else:
            seen["OK"] += 1

    await many(NATIVE, once)
    assert seen.total() == NATIVE
    assert seen["OK"] > NATIVE / 20, seen
    assert seen["MALFORMED_REQUEST"] > NATIVE / 100, seen
    assert seen["VALIDATION_FAILED"] > NATIVE / 5, seen


def segment(value: Any) -> str:
    """A value as part of a path."""
    return quote(plain(value), safe="") or "x"


def plain(value: Any) -> str:
    """A value as a query has it."""
    return value if isinstance(value, str) else str(value)


def headers(fuzz: Fuzz) -> dict[str, str]:
    """Now and then a header that has a meaning."""
    if fuzz.choice(range(4)):
        return {}
    return {"idempotency-key": fuzz.choice(["k", "k2", "x" * 255, "x" * 256])}
