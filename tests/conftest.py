"""What all tests share: one event loop for the whole run, and Postgres."""

from __future__ import annotations

import gc
import os

# Tests start programs of their own, between fork and exec of which gRPC would take its poller apart
# and fail the calls that come next. It reads this when it is imported.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

from typing import TYPE_CHECKING

import pytest
import uvloop
from hypothesis import settings

from services.kit import logs

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator

pytest_plugins = ["tests.forked", "tests.postgres_fixtures", "tests.scheduling"]

# Property tests: a second each, or, with --hypothesis-profile=minute, those of money and masks
# together a minute. Without a deadline for single examples: the machine may be busy.
settings.register_profile("quick", deadline=None)
settings.register_profile("minute", deadline=None, max_examples=5000)
settings.load_profile("quick")


class Loop(uvloop.Loop):
    """One that ends with its process.

    Closing it waits for all of its handles: once in some hundred runs for one that never ends.
    """

    def close(self) -> None:
        """Nothing is waited for."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """None of it is garbage: the collector looks through it neither now nor later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def logs_as_in_a_service() -> None:
    """Unconfigured, structlog would spend a second on the picture of each exception."""
    logs.configure("tests", form="pretty", level="debug")


@pytest.fixture(scope="session", name="_asyncio_loop_factory")
def uvloop_everywhere() -> Callable[[], asyncio.AbstractEventLoop]:
    """The loop that services run on.

    Not the hook `pytest_asyncio_loop_factories`: it gives fixtures of plain tests another loop.
    """
    return Loop
