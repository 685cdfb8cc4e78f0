"""Random calls, and the OpenAPI document tried out: short forms of `make fuzz` (A14, A17)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from grpc import StatusCode
from protovalidate import collect_violations

from tests.e2e.conftest import opened
from tests.e2e.orders import ordered
from tests.e2e.streams import Stream, streaming
from tests.fuzz import document
from tests.fuzz.answers import Answer, complaint
from tests.fuzz.memory import Memory
from tests.fuzz.requests import Requests
from tests.fuzz.stories import faults, tell
from tests.fuzz.story import CALLS, METHODS
from tests.visitors import Shop
from tools.contract import Method

STORIES = 6


@pytest.fixture(scope="module")
async def _shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """A shop of its own: services, too, call at random, and what they say is believed."""
    async with opened(tmp_path_factory.mktemp("shop"), **document.TOLD) as shop:
        yield shop


async def test_no_random_call_is_answered_by_a_fault_or_tells_too_much(shop: Shop) -> None:
    before = len(shop.up.text())
    told = await tell(shop, seed=1, numbers=range(STORIES))
    assert told.problems == []
    assert faults(shop.up.text()[before:]) == []
    assert told.calls == STORIES * CALLS
    # Calls that nobody lets in, or that break a rule, would show nothing.
    assert told.codes["OK"] > told.calls / 4, told.codes
    reached = [method.name for method in METHODS if told.answered[method.name]]
    assert len(reached) > len(METHODS) / 2, reached
    assert len(told.reasons) > 20, told.reasons


async def test_the_document_is_what_the_edge_does(shop: Shop, tmp_path: Path) -> None:
    everything, ends = await document.attempt(
        shop, tmp_path / "run", seed=1, phases="examples,coverage", seconds=7
    )
    assert not everything.failed, everything.text
    assert not ends.failed, ends.text
    for tried in (everything, ends):
        assert "❌" not in tried.summary, tried.text
        assert int(tried.summary.split()[0]) > 5, tried.text


async def test_streams_end_before_a_reader_of_whole_answers_gives_up(shop: Shop) -> None:
    buyer = await shop.sign_up()
    order = await ordered(shop, buyer)
    async with streaming(buyer, f"/api/orders/{order['id']}/watch/?after_sequence=99") as answer:
        said = [each async for each in Stream(answer)]
    assert [each["end"]["cause"] for each in said if each.get("end")] == ["RECONNECT"]
    assert "end" in said[-1]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_valid_requests_are_valid(method: Method) -> None:
    described = descriptor_pool.Default().FindMethodByName(method.name)
    memory = Memory()
    requests = Requests(random.Random(1), memory)
    made = [requests.valid(described) for _ in range(40)]
    assert sum(1 for message in made if collect_violations(message)) <= 10
    raw = {message.SerializeToString(deterministic=True) for message in made}
    again = Requests(random.Random(1), Memory())
    assert raw == {again.valid(described).SerializeToString(deterministic=True) for _ in made}


@pytest.mark.parametrize(
    "text",
    [
        'File "/srv/services/users/store.py", line 3',
        'duplicate key value violates unique constraint "users_email_key"',
        "Unexpected <class 'KeyError'>: 'x'",
        "asyncpg.exceptions.DataError: invalid input",
        "INSERT INTO users.users (id) VALUES ($1)",
    ],
)
def test_a_leak_would_be_seen(text: str) -> None:
    assert complaint(Answer(StatusCode.INVALID_ARGUMENT, text))


def test_a_fault_would_be_seen_and_a_refusal_is_none() -> None:
    assert complaint(Answer(StatusCode.INTERNAL))
    assert complaint(Answer(StatusCode.UNAVAILABLE))
    said = "The e-mail address or the password is wrong."
    assert not complaint(Answer(StatusCode.UNAUTHENTICATED, said))
