"""Services as processes of their own, forked from one that has loaded much, as `shop up` does it.

Loading it for each of them anew would take most of the time of a test that kills one.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
from collections.abc import AsyncIterator, Mapping

import pytest_asyncio

from cli.forks import Forked, Forks
from cli.output import Output
from cli.programs import Program


class Nursery:
    """Where services are forked."""

    def __init__(self, forks: Forks, nowhere: int) -> None:
        self._forks = forks
        self._nowhere = nowhere

    async def fork(self, service: str, environment: Mapping[str, str]) -> Forked:
        """`python -m services.<service>`, with these variables as well; what it says is lost."""
        program = Program(
            name=service,
            command=(),
            module=f"services.{service}",
            ready=_nobody_asks,
            environment={**os.environ, **environment},
        )
        return await self._forks.fork(program, self._nowhere)


async def _nobody_asks(pid: int) -> bool:
    return True


async def end(process: Forked) -> None:
    """Kill it, if it still lives."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    await process.wait()


@pytest_asyncio.fixture(scope="session")
async def nursery() -> AsyncIterator[Nursery]:
    """Where services are forked, for the whole run."""
    forks, nowhere = Forks(Output(io.StringIO())), os.open(os.devnull, os.O_WRONLY)
    yield Nursery(forks, nowhere)
    await forks.stop()
    os.close(nowhere)
