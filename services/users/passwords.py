"""Passwords: argon2id in threads of their own, and the list of those that are too common.

Hashing is made to be slow (about 25 ms and 19 MiB), so there are two threads for it and a short
queue before them; what does not fit is refused, and all other calls go on undisturbed: the threads
take what others leave of the processor.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
import secrets
import struct
import sys
import threading
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import argon2

from services.kit import errors
from services.users import rules

# OWASP Password Storage Cheat Sheet: the least that argon2id should cost.
ITERATIONS = 2
MEMORY_KIB = 19 * 1024
# Hashing fills the memory's bandwidth as well: half of the cores are for everything else.
AT_ONCE = max(1, (os.cpu_count() or 1) // 2)
# The last in the queue waits for about a second; on a busy machine that are fewer.
MOST_WAITING = 32 * AT_ONCE
LONGEST_WAIT = 1.0
USUAL_SECONDS = 0.025
# How much more others count (nice), and how fast what hashing takes is learnt.
NICE, LEARNT = 10, 0.2
# The least that Linux takes; usual are some milliseconds.
TURN_NANOSECONDS = 100_000
# The system call that Python does not have.
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}

COMMON = Path(__file__).with_name("common_passwords.txt")

Result = TypeVar("Result")


class Passwords:
    """Hashes and verifies passwords."""

    def __init__(self, *, iterations: int = ITERATIONS, memory_kib: int = MEMORY_KIB) -> None:
        self._argon2 = argon2.PasswordHasher(iterations, memory_kib, parallelism=1)
        self._threads = ThreadPoolExecutor(AT_ONCE, "argon2", initializer=_stand_back)
        self._waiting = 0
        self._seconds = USUAL_SECONDS
        lines = COMMON.read_text(encoding="utf-8").splitlines()
        self._common = frozenset(line for line in lines if not line.startswith("#"))
        # Verified against where there is no user, so that it takes the same time.
        self._nobodys = self._argon2.hash(secrets.token_hex(16))

    def check_room(self) -> None:
        """Raise RESOURCE_EXHAUSTED where `hash` and `verify` would do so now."""
        queue = self._waiting - AT_ONCE
        if queue >= MOST_WAITING or queue * self._seconds > LONGEST_WAIT * AT_ONCE:
            raise errors.overloaded()

    def check_uncommon(self, field: str, password: str) -> None:
        """Raise INVALID_ARGUMENT (PASSWORD_TOO_COMMON) for the commonest, in any case."""
        if _normal(password).casefold() in self._common:
            raise rules.password_too_common(field)

    async def hash(self, password: str) -> str:
        """The hash to store, with its parameters (PHC string). Raises RESOURCE_EXHAUSTED."""
        return await self._run(lambda: self._argon2.hash(_normal(password)))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether `stored` is a hash of the password; None never is. Raises RESOURCE_EXHAUSTED."""
        return await self._run(lambda: self._verify(stored or self._nobodys, _normal(password)))

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._argon2.verify(stored, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False

    async def _run(self, work: Callable[[], Result]) -> Result:
        self.check_room()
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._do, work)
        finally:
            self._waiting -= 1

    def _do(self, work: Callable[[], Result]) -> Result:
        began = time.perf_counter()
        try:
            return work()
        finally:
            self._seconds += LEARNT * (time.perf_counter() - began - self._seconds)


def _stand_back() -> None:
    """Give way to other threads, and to other processes; Linux has priorities for each thread.

    Whoever wakes up waits until the turn of who is at work is over, whatever their priorities, if
    they are of different sessions. So turns are short (sched_setattr(2), of Linux 6.12 and newer):
    where that cannot be said, the priority has to do.
    """
    if sys.platform != "linux":
        return
    thread = threading.get_native_id()
    lower = min(19, os.getpriority(os.PRIO_PROCESS, thread) + NICE)
    os.setpriority(os.PRIO_PROCESS, thread, lower)
    number = _SCHED_SETATTR.get(platform.machine())
    if number is not None:
        # size, policy, flags, nice, priority, runtime, deadline, period
        said = struct.pack("=IIQiIQQQ", 48, os.SCHED_BATCH, 0, lower, 0, TURN_NANOSECONDS, 0, 0)
        ctypes.CDLL(None).syscall(number, 0, said, 0)


def _normal(password: str) -> str:
    """The same password from every keyboard (NIST SP 800-63B, 5.1.1.2: Unicode is normalized)."""
    return unicodedata.normalize("NFKC", password)
