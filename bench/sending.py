"""Sends a load from a process of its own, and hands over what it measured."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict, replace

from bench.load import Load, Measured

_runs = 0


async def send(load: Load) -> Measured:
    """Run a load. Raises RuntimeError for answers that are not as expected."""
    global _runs  # noqa: PLW0603 - no two runs of this process may use the same keys
    _runs += 1
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.load",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    told = json.dumps(asdict(replace(load, name=f"run{_runs}"))).encode()
    async with asyncio.timeout(load.seconds + 60):
        output, _ = await process.communicate(told)
    if process.returncode:
        raise RuntimeError(f"the load on {load.host}:{load.port}{load.path} failed")
    measured = Measured(**json.loads(output))
    if measured.wrong or not measured.microseconds:
        raise RuntimeError(
            f"{measured.wrong} of {len(measured.microseconds)} answers to "
            f"{bytes.fromhex(load.exchanges[0][0])[:80]!r} were wrong, the first: "
            f"{measured.wrong_answer}"
        )
    return measured
