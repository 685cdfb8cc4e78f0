"""A whole shop for tests: `shop up` as a process of its own, on free ports, in a folder of its own.

It ends with the process that started it, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.data_folder import DataFolder
from tests import migrated
from tests.sizes import WHOLE

SHOP = migrated.SHOP
FORK_SERVER = "shop fork server"
ROOT = Path(__file__).resolve().parent.parent

# All callers of a test have one address.
UNLIMITED = {"SHOP_RATE_LIMIT": "off", "SHOP_SIGN_IN_RATE_LIMIT": "off"}
# Hundreds of people sign up and in: hashes that cost next to nothing, unless the cost is the point.
CHEAP = {"SHOP_USERS_ARGON2_ITERATIONS": "1", "SHOP_USERS_ARGON2_MEMORY_KIB": "64"}
KIND = UNLIMITED | ({} if WHOLE else CHEAP)

# Not a preexec_fn: a fork of a process in which gRPC runs does not live to the exec.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
os.execv(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True)
class Ready:
    """What `shop up` says once everything answers (`--ready-file`)."""

    edge: str
    services: dict[str, str]
    admin: dict[str, str] | None
    database_url: str
    mailbox: str
    stripe: str
    """The sandbox; empty when payments go to Stripe itself."""


@dataclass(frozen=True)
class Process:
    """A process, which is not mistaken for a later one that has the same number."""

    pid: int
    parent: int
    started: int
    command: str

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; one that ended and that nobody has asked about does not."""
        now = _look_at(self.pid)
        return now is not None and now.started == self.started

    def send(self, number: signal.Signals) -> None:
        """Signal it, unless it has ended."""
        if self.is_alive:
            os.kill(self.pid, number)


class ShopUp:
    """One run of `shop up`. Its lines go to the file `log`, after those of earlier runs there."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.data = folder / "data"
        self.log = folder / "log"
        self._ready_file = folder / "ready.json"
        folder.mkdir(parents=True, exist_ok=True)
        self._ready_file.unlink(missing_ok=True)  # one that was killed left it
        if "SHOP_DATABASE_URL" not in environment and migrated.copy_into(self.data):
            DataFolder(self.data).demo_wanted.touch()  # as on a first start
        self.log.touch()
        self._begins = self.log.stat().st_size
        command = [str(SHOP), "up", "--data", str(self.data), "--ready-file", str(self._ready_file)]
        surroundings = {k: v for k, v in os.environ.items() if not k.startswith(("SHOP_", "PG"))}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _DIE_WITH_PARENT, *command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=surroundings | KIND | {"SHOP_LOG_FORMAT": "json"} | environment,
                cwd=folder,
            )

    async def ready(self, seconds: float = 120) -> Ready:
        """Wait until everything answers."""
        async with asyncio.timeout(seconds):
            while not self._ready_file.exists():
                assert self.process.poll() is None, self.text()
                await asyncio.sleep(0.05)
        told: dict[str, Any] = json.loads(self._ready_file.read_text())
        return Ready(**told)

    def text(self) -> str:
        """What this run has printed."""
        return self.log.read_bytes()[self._begins :].decode(errors="replace")

    def events(self, service: str) -> list[dict[str, Any]]:
        """What a service has logged."""
        prefix = f"{service:>9} | {{"
        lines = [line for line in self.text().splitlines() if line.startswith(prefix)]
        return [json.loads(line.partition(" | ")[2]) for line in lines]

    def processes(self) -> list[Process]:
        """Everything that runs because of it, itself first."""
        return tree(self.process.pid)

    def find(self, what: str) -> Process | None:
        """The process that `shop up` itself keeps and whose command has these words in it."""
        for process in self.kept():
            if what in process.command:
                return process
        return None

    def kept(self) -> list[Process]:
        """The processes that `shop up` itself keeps: its children, and the fork server's."""
        own = self.processes()
        servers = [each.pid for each in own if each.command.startswith(FORK_SERVER)]
        return [each for each in own if each.parent in {self.process.pid, *servers}]

    async def stop(self, seconds: float = 60) -> int:
        """Ask it to end as Ctrl-C does; its exit status."""
        self.process.send_signal(signal.SIGINT)
        return await self.ended(seconds)

    async def ended(self, seconds: float = 60) -> int:
        """Wait for its end; its exit status, negative for a signal."""
        async with asyncio.timeout(seconds):
            while (status := self.process.poll()) is None:
                await asyncio.sleep(0.02)
        return status


@contextlib.asynccontextmanager
async def running(folder: Path, *arguments: str, **environment: str) -> AsyncIterator[ShopUp]:
    """A `shop up` for the time of the block. What still runs after it is ended by force."""
    up = ShopUp(folder, *arguments, **environment)
    try:
        yield up
    finally:
        started = up.processes()
        try:
            if up.process.poll() is None:
                await up.stop()
        finally:
            for process in started:
                process.send(signal.SIGKILL)
            up.process.wait(5)


async def command(
    *parts: str | Path, seconds: float = 120, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with its output as text.

    Not with asyncio's own means: those fork, which the threads of gRPC do not take well.
    """

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            parts, capture_output=True, text=True, check=False, timeout=seconds, **more
        )

    return await asyncio.to_thread(run)


def tree(pid: int) -> list[Process]:
    """A process and all that descend from it, parents first. Empty when it has ended."""
    everyone = [
        process
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and (process := _look_at(int(entry.name))) is not None
    ]
    found = [process for process in everyone if process.pid == pid]
    for parent in found:
        found += [process for process in everyone if process.parent == parent.pid]
    return found


def _look_at(pid: int) -> Process | None:
    """The process of this number; None for none, or one that has only to be asked for its status.

    See proc_pid_stat(5): the name may hold anything, so fields are counted from its end.
    """
    folder = Path("/proc") / str(pid)
    try:
        state, parent, *rest = (folder / "stat").read_text().rpartition(")")[2].split()
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None
    return None if state in "ZX" else Process(pid, int(parent), int(rest[17]), command)


async def gone(processes: list[Process], seconds: float = 60) -> list[Process]:
    """Wait for all of them to end; those that have not after so long."""
    until = time.monotonic() + seconds
    while left := [process for process in processes if process.is_alive]:
        if time.monotonic() > until:
            return left
        await asyncio.sleep(0.02)
    return []
