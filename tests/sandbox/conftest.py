"""One sandbox for all of these tests, empty at the start of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import stripe

from tests.sandbox.running import Receiver, Sandbox, receiving

SECRET = "whsec_tests"


@pytest.fixture(scope="session")
def started() -> Iterator[Sandbox]:
    sandbox = Sandbox()
    yield sandbox
    assert sandbox.stop() == 0


@pytest.fixture
def sandbox(started: Sandbox) -> Sandbox:
    started.reset()
    return started


@pytest.fixture
def client(sandbox: Sandbox) -> stripe.StripeClient:
    return sandbox.client()


@pytest.fixture
async def async_client(sandbox: Sandbox) -> AsyncIterator[stripe.StripeClient]:
    async with sandbox.async_client() as client:
        yield client


@pytest.fixture
def receiver(sandbox: Sandbox) -> Iterator[Receiver]:
    with receiving() as receiver:
        sandbox.control("PUT", "/webhook", {"url": receiver.url, "secrets": [SECRET]})
        yield receiver
        sandbox.control("PUT", "/webhook", {"url": None})
