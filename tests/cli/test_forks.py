"""Programs that are forked from a process which has loaded what they need."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli.forks import can_fork
from cli.output import Output
from cli.programs import Program, StartError
from cli.supervisor import Supervisor
from tests.cli.test_supervisor import Transcript, is_running

PATIENCE = 90.0

pytestmark = pytest.mark.skipif(not can_fork(), reason="programs are not forked here")

# It tells all about itself, says a line, and waits for a signal.
WORKER = """
import json, os, random, signal, sys, time, uuid
from pathlib import Path

from services.kit.ids import uuid7

signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
about = {
    "pid": os.getpid(),
    "group": os.getpgid(0),
    "session": os.getsid(0),
    "environment": dict(os.environ),
    "arguments": sys.argv[1:],
    "main": __name__,
    "documented": json.dumps.__doc__ is not None,
    "ids": [str(uuid7()), str(uuid.uuid4()), random.random()],
}
folder = Path(os.environ["FOLDER"])
(folder / "unfinished").write_text(json.dumps(about))
(folder / "unfinished").rename(folder / f"{os.getpid()}.json")
print("here I am", flush=True)
while True:
    time.sleep(60)
"""


@pytest.fixture
def transcript() -> Transcript:
    return Transcript()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the module `some_worker` is found, and writes."""
    (tmp_path / "some_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SHOP_DATABASE_URL", "postgresql://shop:canary@db/shop")
    return tmp_path


def worker(folder: Path, name: str) -> Program:
    async def ready(pid: int) -> bool:
        return (folder / f"{pid}.json").exists()

    environment = {"FOLDER": str(folder), "OWN": name}
    return Program(name, ["false"], ready, module="some_worker", environment=environment)


def told(folder: Path, pid: int | None) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((folder / f"{pid}.json").read_text())
    return about


def supervised(transcript: Transcript, test: Callable[[Supervisor], Awaitable[None]]) -> None:
    """On the loop that `shop up` has, which is not that of services."""
    before = children()

    async def run() -> None:
        supervisor = Supervisor(Output(transcript))
        try:
            await test(supervisor)
        finally:
            await supervisor.stop(*supervisor.names())
            await supervisor.end()
        assert children() <= before

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(run())


def children() -> set[psutil.Process]:
    """Those of this process; other tests may have left some that serve for the whole run."""
    return set(psutil.Process().children())


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def test_each_is_a_program_of_its_own(folder: Path, transcript: Transcript) -> None:
    before = children()

    async def test(supervisor: Supervisor) -> None:
        for name in ("one", "two"):
            supervisor.start(worker(folder, name))
        await supervisor.wait_ready("one", "two", seconds=PATIENCE)
        pids = {name: supervisor.pid(name) for name in ("one", "two")}
        about = {name: told(folder, pid) for name, pid in pids.items()}
        for name, pid in pids.items():
            own = about[name]
            assert own["environment"] == {"FOLDER": str(folder), "OWN": name}
            assert (own["pid"], own["group"]) == (pid, pid)
            # Within one session the kernel shares the processor out among processes.
            assert own["session"] == os.getsid(0)
            assert (own["arguments"], own["main"]) == ([], "__main__")
            assert not own["documented"]  # docstrings would be 4 MB of each
            assert " ".join(psutil.Process(pid).cmdline()).strip() == (
                f"shop {name}: python -m some_worker"
            )
        assert {*about["one"]["ids"]}.isdisjoint(about["two"]["ids"])
        (server,) = children() - before
        assert {process.pid for process in server.children()} == {*pids.values()}
        assert "canary" not in json.dumps(server.environ())

    supervised(transcript, test)
    assert "      one | here I am\n" in transcript.text()
    assert "      two | here I am\n" in transcript.text()


def test_how_it_ended_is_known_and_it_is_back(folder: Path, transcript: Transcript) -> None:
    async def test(supervisor: Supervisor) -> None:
        supervisor.start(worker(folder, "one"))
        await supervisor.wait_ready("one", seconds=PATIENCE)
        for number in (signal.SIGKILL, signal.SIGTERM):
            pid = supervisor.pid("one")
            assert pid is not None
            os.kill(pid, number)
            await until(lambda: supervisor.pid("one") not in {pid, None})  # noqa: B023
            await supervisor.wait_ready("one", seconds=PATIENCE)

    supervised(transcript, test)
    assert "one | ended by SIGKILL; starting it again now" in transcript.text()
    assert "one | ended with status 7; starting it again in 0.5 s" in transcript.text()


def test_one_that_cannot_start_is_given_up_and_says_why(
    folder: Path, transcript: Transcript
) -> None:
    (folder / "some_worker.py").write_text("import no_such_thing\n")

    async def test(supervisor: Supervisor) -> None:
        supervisor.start(worker(folder, "one"))
        with pytest.raises(StartError, match="one does not start: ended with status 1"):
            await supervisor.wait_ready("one")

    supervised(transcript, test)
    assert "one | ModuleNotFoundError: No module named 'no_such_thing'" in transcript.text()


def test_a_killed_fork_server_takes_its_forks_with_it_and_all_come_back(
    folder: Path, transcript: Transcript
) -> None:
    others = children()

    async def test(supervisor: Supervisor) -> None:
        names = ("one", "two")
        for name in names:
            supervisor.start(worker(folder, name))
        await supervisor.wait_ready(*names, seconds=PATIENCE)
        before = {supervisor.pid(name) for name in names}
        (server,) = children() - others
        server.kill()
        await until(lambda: not {supervisor.pid(name) for name in names} & {*before, None})
        await supervisor.wait_ready(*names, seconds=PATIENCE)
        assert not [pid for pid in before if pid is not None and is_running(pid)]

    supervised(transcript, test)


def test_a_killed_supervisor_leaves_no_fork_behind(folder: Path) -> None:
    script = f"""
import asyncio
from pathlib import Path
from cli.output import Output
from cli.supervisor import Supervisor
from tests.cli.test_forks import PATIENCE, worker

async def main():
    supervisor = Supervisor(Output())
    supervisor.start(worker(Path({str(folder)!r}), "one"))
    await supervisor.wait_ready("one", seconds=PATIENCE)
    await asyncio.sleep(60)

asyncio.run(main())
"""
    deadline = time.monotonic() + PATIENCE
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL) as parent:
        while not [*folder.glob("*.json")]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        processes = psutil.Process(parent.pid).children(recursive=True)
        assert len(processes) == 2
        parent.kill()
    while any(is_running(process.pid) for process in processes):
        assert time.monotonic() < deadline, "somebody was left behind"
        time.sleep(0.02)
