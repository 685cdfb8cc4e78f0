"""Sends a load from a process of its own, and hands over what it measured."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

from bench.load import Load, Measured

ROOT = Path(__file__).resolve().parent.parent

_runs = 0


async def send(load: Load) -> Measured:
    """Run a load. Raises RuntimeError for answers that are not as expected."""
    measured = await measure(load)
    if measured.wrong or not measured.microseconds:
        raise RuntimeError(
            f"{measured.wrong} of {len(measured.microseconds)} answers to "
            f"{bytes.fromhex(load.exchanges[0][0])[:80]!r} were wrong, such as: "
            f"{next(iter(measured.wrong_answers), 'none came')}"
        )
    return measured


async def measure(load: Load) -> Measured:
    """Run a load, whatever is answered."""
    global _runs  # noqa: PLW0603 - no two runs of this process may use the same keys
    _runs += 1
    told = json.dumps(asdict(replace(load, name=f"run{_runs}"))).encode()
    process = subprocess.Popen(  # noqa: ASYNC220 - its forks are not for those who use gRPC
        [sys.executable, "-m", "bench.load"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        output, _ = await asyncio.to_thread(process.communicate, told, load.seconds + 60)
    finally:
        process.kill()
    if process.returncode:
        raise RuntimeError(f"the load on {load.host}:{load.port}{load.path} failed")
    return Measured(**json.loads(output))
