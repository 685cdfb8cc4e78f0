"""Keeps programs running: starts them, waits until they work, starts them again when they end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from asyncio.subprocess import DEVNULL, Process

from cli.forks import Forked, Forks, can_fork
from cli.output import Output
from cli.programs import Program, StartError, popen_arguments

# Between two questions whether a program works: often at first, when it may be a matter of moments.
FIRST_PROBE_SECONDS, LONGEST_PROBE_SECONDS = 0.02, 0.25
# The first restart is immediate; a program that keeps ending is started less and less often.
PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
# After so long a run an end is taken for a new accident.
STEADY_SECONDS = 10.0
# A program that ended so often without ever having worked is not going to.
HOPELESS_STARTS = 3
STOP_SECONDS = 10.0
LAST_WORDS_SECONDS = 0.5


class Kept:
    """One program under supervision."""

    def __init__(self, program: Program, output: Output, forks: Forks) -> None:
        self.program = program
        self.ready = asyncio.Event()
        self.process: Process | Forked | None = None
        self._output = output
        self._forks = forks
        self._stopping = asyncio.Event()
        self._gave_up = asyncio.Event()
        self._reason = ""
        self._task = asyncio.create_task(self._keep(), name=program.name)

    async def wait_ready(self, seconds: float) -> None:
        """Until the program works. Raises StartError when it does not come to that."""
        events = [asyncio.create_task(event.wait()) for event in (self.ready, self._gave_up)]
        try:
            await asyncio.wait(events, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for event in events:
                event.cancel()
        if not self.ready.is_set():
            reason = self._reason or f"runs, but does not work after {seconds:.0f} s"
            raise StartError(f"{self.program.name} {reason}. Its own lines may say why.")

    async def stop(self) -> None:
        """End the program: kindly, and by force when it does not listen."""
        self._stopping.set()
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(self.program.stop_signal)
        _, late = await asyncio.wait({self._task}, timeout=STOP_SECONDS)
        if late:
            self.kill()
            await asyncio.wait({self._task})

    def kill(self) -> None:
        """End the program and everything it started, at once."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    async def _keep(self) -> None:
        failures = 0
        worked = False
        while not self._stopping.is_set():
            started = time.monotonic()
            reason = await self._run()
            if self._stopping.is_set():
                return
            worked = worked or self.ready.is_set()
            self.ready.clear()
            if time.monotonic() - started > STEADY_SECONDS:
                failures = 0
            pause = PAUSES[min(failures, len(PAUSES) - 1)]
            failures += 1
            if not worked and failures == HOPELESS_STARTS:
                self._reason = f"does not start: {reason}"
                self._gave_up.set()
                return
            when = f"in {pause:g} s" if pause else "now"
            self._output.say(self.program.name, f"{reason}; starting it again {when}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _run(self) -> str:
        """Run the program to its end; how it ended."""
        try:
            process, copying = await self._start()
        except (StartError, OSError) as error:
            return str(error)
        watching = asyncio.create_task(self._watch(process.pid))
        try:
            code = await process.wait()
        finally:
            watching.cancel()
        self.kill()  # what it started itself and did not end
        # What it said last, unless somebody else still holds its output open.
        await asyncio.wait({copying}, timeout=LAST_WORDS_SECONDS)
        copying.cancel()
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"

    async def _start(self) -> tuple[Process | Forked, asyncio.Task[None]]:
        """Start the program, and copy what it writes. Raises StartError or OSError."""
        program = self.program
        await asyncio.to_thread(program.prepare)
        reading, writing = os.pipe()
        try:
            if program.module and can_fork():
                self.process = await self._forks.fork(program, writing)
            else:
                self.process = await asyncio.create_subprocess_exec(
                    *program.command,
                    stdin=DEVNULL,
                    stdout=writing,
                    stderr=writing,
                    **popen_arguments(program),
                )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        copying = asyncio.create_task(self._output.lines(program.name).copy(reading))
        if self._stopping.is_set():  # asked to while it was starting
            self.process.send_signal(program.stop_signal)
        return self.process, copying

    async def _watch(self, pid: int) -> None:
        pause = FIRST_PROBE_SECONDS
        while not await self.program.ready(pid):
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, LONGEST_PROBE_SECONDS)
        self.ready.set()


class Supervisor:
    """The programs that are kept, by name."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._kept: dict[str, Kept] = {}
        self._forks = Forks(output)

    def expect_forks(self) -> None:
        """Begin to load what forked programs need, which takes longer than starting them."""
        if can_fork():
            self._forks.expect()

    def start(self, program: Program) -> None:
        """Start a program and keep it. From the main thread only, see `cli.programs`."""
        self._kept[program.name] = Kept(program, self._output, self._forks)

    async def wait_ready(self, *names: str, seconds: float = 30.0) -> None:
        """Until all of them work. Raises StartError."""
        waits = [asyncio.create_task(self._kept[name].wait_ready(seconds)) for name in names]
        try:
            await asyncio.gather(*waits)
        finally:
            for wait in waits:
                wait.cancel()

    def names(self) -> list[str]:
        return list(self._kept)

    def pid(self, name: str) -> int | None:
        kept = self._kept.get(name)
        process = kept.process if kept is not None else None
        return process.pid if process is not None and process.returncode is None else None

    async def stop(self, *names: str) -> None:
        """Stop these, all at the same time."""
        kept = [self._kept[name] for name in names if name in self._kept]
        await asyncio.gather(*(one.stop() for one in kept))

    async def end(self) -> None:
        """Let go of what is needed to start programs, once all are stopped."""
        await self._forks.stop()

    def kill_all(self) -> None:
        """End everything at once."""
        for kept in self._kept.values():
            kept.kill()
