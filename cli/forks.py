"""Programs that are forked from a process which has loaded what they need (`cli.fork_server`).

The fork server is started when it is first wanted, and again when it is wanted and has ended. Its
forks end with it, so that nothing outlives the process that started it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections import deque

from cli.output import Output
from cli.programs import LEAN_PYTHON, Program, StartError, popen_arguments

NAME = "forks"
LARGEST_MESSAGE = 1 << 12
# Variables that tell a shop or a service something. The fork server is told nothing.
TELLING = ("SHOP_", "STRIPE_", "OTEL_")


def can_fork() -> bool:
    """Whether this system has what it takes; where it has not, programs are started as usual."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


class Forked:
    """A process that the fork server has made, as `asyncio.subprocess` would show it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            # Names the process, not the number, which may be somebody else's one day.
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended already, which the server is about to tell
            self._descriptor = -1

    async def wait(self) -> int:
        """How it ended, as `asyncio.subprocess` says it: a status, or a signal below zero."""
        return await asyncio.shield(self._over)

    def send_signal(self, number: int) -> None:
        """Raises ProcessLookupError when it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def ended(self, code: int) -> None:
        """The server has seen it end."""
        self.returncode = code
        self._over.set_result(code)
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def orphaned(self) -> None:
        """The server is no more, and the kernel is about to kill what it has forked."""
        if self._descriptor < 0:
            self.ended(-signal.SIGKILL)
            return
        loop = asyncio.get_running_loop()

        def over() -> None:
            loop.remove_reader(self._descriptor)
            self.ended(-signal.SIGKILL)

        loop.add_reader(self._descriptor, over)


class Server:
    """One fork server, from its start to its end."""

    def __init__(self, process: Process, channel: socket.socket, copying: asyncio.Task[None]):
        self.process = process
        self.has_ended = False
        self._channel = channel
        self._copying = copying
        self._asked: deque[asyncio.Future[Forked]] = deque()
        self._running: dict[int, Forked] = {}
        asyncio.get_running_loop().add_reader(channel, self._hear)

    @classmethod
    async def start(cls, output: Output) -> Server:
        """It loads what it has to, and answers what it is asked meanwhile when it has done so."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        program = Program(
            name=NAME,
            command=[*LEAN_PYTHON, "-m", "cli.fork_server", str(theirs.fileno())],
            ready=_nobody_asks,
            environment={
                name: value for name, value in os.environ.items() if not name.startswith(TELLING)
            }
            | {"PYTHONUNBUFFERED": "1"},
        )
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *program.command,
                stdin=DEVNULL,
                stdout=writing,
                stderr=writing,
                pass_fds=[theirs.fileno()],
                **popen_arguments(program),
            )
        except BaseException:
            ours.close()
            os.close(reading)
            raise
        finally:
            theirs.close()
            os.close(writing)
        return cls(process, ours, asyncio.create_task(output.lines(NAME).copy(reading)))

    async def fork(self, program: Program, output: int) -> Forked:
        """A process that runs the program's module, and writes to `output`. Raises StartError."""
        variables = os.memfd_create("variables")
        try:
            os.write(variables, json.dumps(dict(program.environment)).encode())
            os.lseek(variables, 0, os.SEEK_SET)
            request = json.dumps({"name": program.name, "module": program.module}).encode()
            answer: asyncio.Future[Forked] = asyncio.get_running_loop().create_future()
            try:
                socket.send_fds(self._channel, [request], [output, variables])
            except OSError as error:
                raise StartError(f"The fork server does not listen: {error.strerror}") from None
        finally:
            os.close(variables)
        self._asked.append(answer)
        return await answer

    def _hear(self) -> None:
        try:
            told = self._channel.recv(LARGEST_MESSAGE)
        except OSError:
            told = b""
        if not told:
            self._end()
            return
        message = json.loads(told)
        if "started" in message:
            process = Forked(message["started"])
            self._running[process.pid] = process
            answer = self._asked.popleft()
            if answer.done():  # whoever asked is not there any more
                process.send_signal(signal.SIGKILL)
            else:
                answer.set_result(process)
        elif "failed" in message:
            answer = self._asked.popleft()
            if not answer.done():
                answer.set_exception(StartError(message["failed"]))
        else:
            self._running.pop(message["ended"]).ended(message["code"])

    def _end(self) -> None:
        self.has_ended = True
        asyncio.get_running_loop().remove_reader(self._channel)
        self._channel.close()
        for answer in self._asked:
            if not answer.done():
                answer.set_exception(StartError("the fork server has ended"))
        for process in self._running.values():
            process.orphaned()

    async def stop(self) -> None:
        """End it, and what is left of its forks."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await asyncio.wait({self._copying}, timeout=0.5)
        self._copying.cancel()


async def _nobody_asks(pid: int) -> bool:
    return True


class Forks:
    """Where programs are forked."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._server: asyncio.Task[Server] | None = None

    def expect(self) -> None:
        """Start a server, unless there is one."""
        task = self._server
        if task is not None and task.done():
            failed = task.cancelled() or task.exception() is not None
            task = None if failed or task.result().has_ended else task
        self._server = task or asyncio.create_task(Server.start(self._output))

    async def fork(self, program: Program, output: int) -> Forked:
        """A process that runs the program's module, and writes to `output`. Raises StartError."""
        self.expect()
        assert self._server is not None
        server = await asyncio.shield(self._server)
        return await server.fork(program, output)

    async def stop(self) -> None:
        """End the server, once nothing that it has forked is needed any more."""
        if self._server is not None:
            server = await self._server
            await server.stop()
