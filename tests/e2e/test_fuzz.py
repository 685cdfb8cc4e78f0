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
from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from tests import fuzzing
from tests.contract import Method
from tests.e2e.asks import PUBLIC
from tests.e2e.orders import ordered
from tests.e2e.streams import first_event
from tests.fuzzing import Fuzzer
from tests.refusals import HTTP, documented, gives_away
from tests.visitors import Person, Shop, Visitor

REST, NATIVE = 1_500, 8_500
AT_ONCE = 8
# What JSON can hold besides what belongs into a field.
ODD: list[Any] = [None, True, 7, 1.5, 1e30, -(2**64), "x", "", [], [[]], {}, {"x": 1}, {"": ""}]
# Each answer costs the hash of a password.
SLOW = ("Login", "ConfirmPasswordReset", "CreateUser")
# Who is asked about in these is not to be asked for anything else: they may be gone.
LAST = ("Logout", "DeleteUser", "SetUserDisabled", "SetUserRole", "ChangePassword")


class Crowd:
    """People who make random requests, and somebody for those that end in tears."""

    def __init__(self, shop: Shop, people: list[Person], nobody_cares: Person) -> None:
        self._people: list[Visitor] = [shop.nobody, *people]
        self._nobody_cares = nobody_cares

    def choose(self, fuzzer: Fuzzer) -> tuple[Method, Visitor]:
        """What to ask for, and who does it."""
        method = fuzzer.random.choice(PUBLIC)
        if method.proto.name in SLOW and fuzzer.random.random() < 0.8:
            return self.choose(fuzzer)
        last = method.proto.name in LAST
        return method, self._nobody_cares if last else fuzzer.random.choice(self._people)


@pytest.fixture
async def people(shop: Shop) -> list[Person]:
    """Somebody of each role."""
    return [await shop.sign_up(role) for role in ("CUSTOMER", "STAFF", "ADMIN")]


@pytest.fixture
async def crowd(shop: Shop, people: list[Person]) -> Crowd:
    """All who call."""
    return Crowd(shop, people, await shop.sign_up())


@pytest.fixture
async def words(shop: Shop, people: list[Person]) -> list[str]:
    """What means something to the shop."""
    product = await shop.new_product()
    order = await ordered(shop, people[0])
    return [
        order["id"],
        *(product[name] for name in ("id", "slug", "default_variant_id", "sku")),
        *(person.email for person in people),
        people[0].id,
        "material=wool",
    ]


@pytest.fixture(autouse=True)
async def no_fault_in_the_logs(shop: Shop) -> AsyncIterator[None]:
    """No service logs an error meanwhile."""
    before = len(shop.up.text())
    yield
    assert not re.search(r'.*"level": "(error|critical)".*', shop.up.text()[before:])


async def test_rest(crowd: Crowd, words: list[str]) -> None:
    fuzzer, seen = Fuzzer(1, words), Counter[str]()

    async def once() -> None:
        method, who = crowd.choose(fuzzer)
        verb, template, body = fuzzer.random.choice(list(method.bindings()))
        fields = as_json(fuzzer, method)
        path = re.sub(r"\{(\w+)\}", lambda found: segment(fields.pop(found[1], "x")), template)
        query = {} if body else {name: str(value) for name, value in fields.items()}
        headers = {name: value for name, value in fuzzer.metadata() if value.isascii()}
        if method.proto.server_streaming:
            answer = await first_event(who, path, query, headers)
        else:
            sent = fields if body else None
            answer = await who.call(verb.upper(), path, sent, query=query, headers=headers)
        what = (verb, path, fields, answer.status_code, answer.text)
        kinds = {"application/json", "text/event-stream" if method.proto.server_streaming else ""}
        assert answer.headers["content-type"] in kinds, what
        seen[str(answer.status_code)] += 1
        if answer.status_code < 400:
            return
        told = answer.json()
        says = documented()[told["details"][0]["reason"]]
        assert told["code"] == says.code.value[0], what
        assert answer.status_code in (HTTP[says.code], 405, 413), what
        assert answer.status_code < 500, what
        assert not gives_away(answer.text), what

    await many(REST, once)
    assert seen.total() == REST
    assert seen["200"] + seen["201"] > REST / 10, seen
    assert seen["400"] > REST / 5, seen


async def test_grpc(shop: Shop, crowd: Crowd, words: list[str]) -> None:
    fuzzer, seen = Fuzzer(2, words), Counter[grpc.StatusCode]()

    async def once() -> None:
        method, who = crowd.choose(fuzzer)
        described = descriptor(method)
        raw = fuzzer.request(described)
        signed = (("authorization", f"Bearer {who.token}"),) if who.token else ()
        answer = await fuzzing.ask(shop.channel, described, raw, (*signed, *fuzzer.metadata()))
        assert not fuzzing.complaint(answer), fuzzing.show(described, raw)
        seen[answer.code] += 1

    await many(NATIVE, once)
    assert seen.total() == NATIVE
    assert seen[grpc.StatusCode.OK] > NATIVE / 10, seen
    assert seen[grpc.StatusCode.INVALID_ARGUMENT] > NATIVE / 10, seen


async def many(count: int, once: Callable[[], Awaitable[None]]) -> None:
    """Do it so many times, some at a time."""
    numbers = iter(range(count))

    async def work() -> None:
        for _ in numbers:
            await once()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


def descriptor(method: Method) -> MethodDescriptor:
    """A method as the library of protobuf has it."""
    found: MethodDescriptor = descriptor_pool.Default().FindMethodByName(method.name)
    return found


def as_json(fuzzer: Fuzzer, method: Method) -> dict[str, Any]:
    """A random request as JSON, in which now and then something has another type."""
    message = GetMessageClass(descriptor(method).input_type)()
    try:
        message.ParseFromString(fuzzer.request(descriptor(method)))
        fields: dict[str, Any] = json_format.MessageToDict(
            message, preserving_proto_field_name=True
        )
    except (DecodeError, json_format.SerializeToJsonError, TypeError):  # an Any of no type there is
        fields = {"id": "x"}
    for name in fields:
        if fuzzer.random.random() < 0.05:
            fields[name] = fuzzer.random.choice(ODD)
    return fields


def segment(value: Any) -> str:
    """A value as part of a path."""
    return quote(str(value), safe="") or "x"
