"""Forks Python programs from one process that has loaded what services need.

`python -m cli.fork_server FD` is asked over the socket FD by `cli.forks`, and ends with whoever
holds the other end. Loading takes most of a service's start, and a third of its memory: here it is
done once, and each fork shares it until it writes to it. What comes of a request runs as
`python -m MODULE` would.

This process starts no thread and makes no object of gRPC: neither lives on in a fork. It is told no
secret: the variables of a program are read by the program itself, behind the fork.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys

import setproctitle

from cli.programs import die_with_parent, lead_a_group
from services import kit

# A request holds names; its descriptors are the output and the file with the variables.
LARGEST_MESSAGE = 1 << 12
# Loads OpenTelemetry, which a service does itself if it is to take traces.
LEFT_OUT = {"traces"}


def load() -> None:
    """Load what services share. What is one service's own, it loads when it is forked."""
    gc.disable()  # nothing of it is garbage
    for module in pkgutil.iter_modules(kit.__path__):
        if module.name not in LEFT_OUT:
            importlib.import_module(f"{kit.__name__}.{module.name}")
    # The collector of a fork will not look at it: it would write to every page.
    gc.freeze()


def serve(channel: socket.socket) -> str | None:
    """Fork what is asked for, and tell what has ended.

    It comes back twice over: in a fork with the name of the module that it is to run, and in the
    server with None, when nobody is left who could ask.
    """
    waking, woken = socket.socketpair()
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ask_the_kernel = die_with_parent(signal.SIGKILL)
    while True:
        ready, _, _ = select.select([channel, woken], [], [])
        if woken in ready:
            woken.recv(LARGEST_MESSAGE)
            _tell_who_has_ended(channel)
        if channel not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(channel, LARGEST_MESSAGE, 2)
        if not message:
            return None
        waiting, becoming = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:  # others may have room again before long
            pid = -1
            channel.send(json.dumps({"failed": f"cannot be forked: {error.strerror}"}).encode())
        if pid == 0:
            ask_the_kernel()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for mine in (channel, waking, woken):
                mine.close()
            request = json.loads(message)
            _become(request["name"], request["module"], *descriptors)
            os.close(waiting)
            os.close(becoming)
            return str(request["module"])
        for descriptor in (*descriptors, becoming):
            os.close(descriptor)
        os.read(waiting, 1)  # it can be signalled as a group from now on
        os.close(waiting)
        if pid > 0:
            channel.send(json.dumps({"started": pid}).encode())


def _tell_who_has_ended(channel: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        channel.send(json.dumps({"ended": pid, "code": code}).encode())


def _become(name: str, module: str, output: int, variables: int) -> None:
    """Be a program of its own: a group, an output, an environment, and a title in `ps`."""
    lead_a_group()
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    os.close(output)
    with open(variables, "rb") as file:
        environment = json.load(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module]
    setproctitle.setproctitle(f"shop {name}: python -m {module}")
    gc.enable()


if __name__ == "__main__":
    asking = socket.socket(fileno=int(sys.argv[1]))
    setproctitle.setproctitle("shop fork server")
    load()
    to_run = serve(asking)
    if to_run is not None:
        runpy.run_module(to_run, run_name="__main__", alter_sys=True)
