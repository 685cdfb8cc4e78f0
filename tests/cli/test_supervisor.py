"""The supervisor keeps programs running, and leaves none behind."""

from __future__ import annotations

import asyncio
import functools
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from cli import supervisor as supervision
from cli.output import Output
from cli.programs import Program, StartError
from cli.supervisor import Supervisor

PYTHON = [sys.executable, "-S", "-E", "-c"]
PATIENCE_SECONDS = 30.0
WORKS = "import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); time.sleep(60)"


class Transcript(io.TextIOWrapper):
    """What was written, as text."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def text(self) -> str:
        self.seek(0)
        return self.read()


@pytest.fixture
def transcript() -> Transcript:
    return Transcript()


@pytest.fixture
def supervisor(transcript: Transcript) -> Supervisor:
    return Supervisor(Output(transcript))


def supervised(
    test: Callable[..., Coroutine[Any, Any, None]],
) -> Callable[..., None]:
    """Run the test on the loop that `shop up` has, which is not that of services; then stop all."""

    @functools.wraps(test)
    def run(*, supervisor: Supervisor, **fixtures: Any) -> None:
        async def test_and_stop() -> None:
            try:
                await test(supervisor=supervisor, **fixtures)
            finally:
                await supervisor.stop(*supervisor.names())

        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(test_and_stop())

    return run


def program(folder: Path, code: str = WORKS, name: str = "worker", **more: object) -> Program:
    """It is ready when it has written its process id into a file that has its name."""
    log = folder / name

    async def ready(pid: int) -> bool:
        return log.exists() and str(pid) in log.read_text().split()

    return Program(name=name, command=[*PYTHON, code, str(log)], ready=ready, **more)  # type: ignore[arg-type]


def is_running(pid: int) -> bool:
    """Zombies do not count: whoever has to collect them may not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@supervised
async def test_it_waits_until_the_program_works(supervisor: Supervisor, tmp_path: Path) -> None:
    late = "import time; time.sleep(0.3); " + WORKS
    supervisor.start(program(tmp_path, late))
    started = time.monotonic()
    await supervisor.wait_ready("worker")
    assert time.monotonic() - started >= 0.3


@supervised
async def test_a_killed_program_is_back_at_once(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(program(tmp_path))
    await supervisor.wait_ready("worker")
    first = supervisor.pid("worker")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: supervisor.pid("worker") not in {first, None})
    await supervisor.wait_ready("worker")
    assert supervisor.pid("worker") != first


@supervised
async def test_a_program_that_keeps_ending_is_started_less_and_less_often(
    supervisor: Supervisor,
    tmp_path: Path,
    transcript: Transcript,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervision, "PAUSES", (0.0, 0.05, 40.0))
    brief = WORKS.replace("60", "0.05")
    supervisor.start(program(tmp_path, brief))
    await supervisor.wait_ready("worker")
    await until(lambda: "in 40 s" in transcript.text())
    starts = (tmp_path / "worker").read_text().count("\n")
    await asyncio.sleep(0.2)
    assert (tmp_path / "worker").read_text().count("\n") == starts == 3
    assert "worker | ended with status 0; starting it again now" in transcript.text()


@supervised
async def test_a_program_that_never_works_is_given_up(
    supervisor: Supervisor, tmp_path: Path, transcript: Transcript
) -> None:
    supervisor.start(program(tmp_path, "print('no such setting'); raise SystemExit(3)"))
    with pytest.raises(StartError, match="worker does not start: ended with status 3"):
        await supervisor.wait_ready("worker")
    assert transcript.text().count("worker | no such setting") == supervision.HOPELESS_STARTS


@supervised
async def test_a_program_that_cannot_be_prepared_says_why(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    def prepare() -> None:
        raise StartError("the folder is in use")

    supervisor.start(program(tmp_path, prepare=prepare))
    with pytest.raises(StartError, match="the folder is in use"):
        await supervisor.wait_ready("worker")


@supervised
async def test_a_program_that_runs_but_does_not_work_is_told(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.start(program(tmp_path, "import time; time.sleep(60)"))
    with pytest.raises(StartError, match="does not work after 0 s"):
        await supervisor.wait_ready("worker", seconds=0.2)


@supervised
async def test_one_that_ends_disturbs_no_other(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(program(tmp_path, name="one"))
    supervisor.start(program(tmp_path, name="two"))
    await supervisor.wait_ready("one", "two")
    one, two = supervisor.pid("one"), supervisor.pid("two")
    assert one is not None
    os.kill(one, signal.SIGKILL)
    await until(lambda: supervisor.pid("one") not in {one, None})
    assert supervisor.pid("two") == two


@supervised
async def test_stopping_is_kind_first(
    supervisor: Supervisor, tmp_path: Path, transcript: Transcript
) -> None:
    kind = "import signal, sys; signal.signal(15, lambda *_: sys.exit(print('drained'))); " + WORKS
    supervisor.start(program(tmp_path, kind))
    await supervisor.wait_ready("worker")
    await supervisor.stop("worker")
    assert "worker | drained" in transcript.text()
    assert "starting it again" not in transcript.text()


@supervised
async def test_who_does_not_listen_is_stopped_by_force(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "STOP_SECONDS", 0.2)
    supervisor.start(
        program(tmp_path, "import signal; signal.signal(15, signal.SIG_IGN); " + WORKS)
    )
    await supervisor.wait_ready("worker")
    pid = supervisor.pid("worker")
    assert pid is not None
    await supervisor.stop("worker")
    assert not is_running(pid)


@supervised
async def test_children_of_a_program_end_with_it(supervisor: Supervisor, tmp_path: Path) -> None:
    parent = f"import os, time; os.fork() or time.sleep(60); {WORKS}"
    supervisor.start(program(tmp_path, parent.replace("or time", "and time")))
    log = tmp_path / "worker"
    await until(lambda: log.exists() and log.read_text().endswith("\n"))
    child = int(log.read_text().split()[0])
    pid = supervisor.pid("worker")
    assert pid is not None
    assert is_running(child)
    assert child != pid
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not is_running(child))


@supervised
async def test_lines_are_not_torn_and_carry_the_name(
    supervisor: Supervisor, tmp_path: Path, transcript: Transcript
) -> None:
    halves = (
        "import sys, time; w = sys.stdout; w.write('on'); w.flush(); time.sleep(0.1); print('e')"
    )
    supervisor.start(program(tmp_path, f"{halves}; print('two', end='', flush=True); {WORKS}"))
    await supervisor.wait_ready("worker")
    await supervisor.stop("worker")
    assert "worker | one\n" in transcript.text()
    assert "worker | two\n" in transcript.text()


def test_a_killed_supervisor_leaves_nobody_behind(tmp_path: Path) -> None:
    script = f"""
import asyncio, sys
from cli.output import Output
from cli.programs import Program
from cli.supervisor import Supervisor

async def ready(pid):
    return True

async def main():
    supervisor = Supervisor(Output())
    for name in ("one", "two"):
        command = [*{PYTHON!r}, {WORKS!r}, {str(tmp_path)!r} + "/" + name]
        supervisor.start(Program(name=name, command=command, ready=ready))
    await supervisor.wait_ready("one", "two")
    await asyncio.sleep(60)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL) as parent:
        logs = [tmp_path / "one", tmp_path / "two"]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not all(log.exists() and log.read_text().endswith("\n") for log in logs):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        children = [int(log.read_text()) for log in logs]
        assert all(is_running(child) for child in children)
        parent.kill()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(is_running(child) for child in children):
        assert time.monotonic() < deadline, "somebody was left behind"
        time.sleep(0.01)
