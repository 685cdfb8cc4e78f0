"""A program that the shop starts: its command, its surroundings, and how one knows that it works.

Nothing outlives the process that started it: on Linux the kernel signals a child when the thread
that forked it ends, however it ends. So children are only started from the main thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# For what serves: without docstrings, 4 MB of each process, and asserts; and not from a folder
# called `services` that the user happens to stand in.
LEAN_PYTHON = (sys.executable, "-OO", "-P")

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class User:
    """Who a program runs as, when that is not the user who starts it."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Program:
    """What the supervisor keeps running.

    `ready` answers whether the program, running under the given process id, does its work.
    `prepare` is called before each start and raises `StartError` when trying is pointless.
    A Python `module` is forked from a process that has loaded what it needs, where that can be
    done (`cli.forks`); elsewhere `command` runs it.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[int], Awaitable[bool]]
    module: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    user: User | None = None
    prepare: Callable[[], None] = lambda: None
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL


class StartError(Exception):
    """Something cannot be started; the text says what is wrong and what to do."""


def die_with_parent(orphan_signal: signal.Signals) -> Callable[[], None]:
    """What a child does between fork and exec to get `orphan_signal` when its parent ends."""
    parent = os.getpid()

    def ask_the_kernel() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, orphan_signal, 0, 0, 0)
            if os.getppid() != parent:  # it ended before the kernel was asked
                os._exit(1)

    return ask_the_kernel


def lead_a_group() -> None:
    """Lead a group of processes: Ctrl-C in a terminal reaches the supervisor alone, and the whole
    group can be signalled.

    But no session: to Linux each is as much as any other (sched_autogroup, sched(7)), however many
    processes and threads it has, and `nice` counts only within it.
    """
    os.setpgid(0, 0)


def popen_arguments(program: Program) -> dict[str, Any]:
    """How `subprocess.Popen`, or asyncio's counterpart, starts the program.

    The user is changed before the kernel is asked for the signal, which a change of user would
    cancel.
    """
    ask_the_kernel = die_with_parent(program.orphan_signal)

    def prepare() -> None:
        ask_the_kernel()
        lead_a_group()

    arguments: dict[str, Any] = {
        "env": dict(program.environment),
        "cwd": program.folder,
        "preexec_fn": prepare,
    }
    return arguments | as_user(program.user)


def as_user(user: User | None) -> dict[str, Any]:
    """The part of the arguments that changes the user."""
    return {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
