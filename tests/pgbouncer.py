"""A real PgBouncer in transaction mode, before as many Postgres as there are.

Debian's package, which `.ci/run` installs.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from cli.topology import LOOPBACK, free_port, is_free

# Sessions of each role in each database: few, so that every call gets another one than the last.
SESSIONS = 2
CONFIGURATION = """\
[databases]
{databases}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
admin_users = {admin}
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 500
logfile = {folder}/log
"""


def pgbouncer() -> str:
    """The program. Without it the test is skipped, loudly."""
    for name in ("pgbouncer", "/usr/sbin/pgbouncer"):
        if found := shutil.which(name):
            return found
    pytest.skip("NO PGBOUNCER: nobody sees the shop behind it. Debian: apt-get install pgbouncer")


@dataclass(frozen=True)
class Pooler:
    """A running PgBouncer."""

    port: int
    admin: str

    def url(self, direct: str) -> str:
        """The same database, through it."""
        parts = urlsplit(direct)
        place = f"{parts.netloc.rpartition('@')[0]}@{LOOPBACK}:{self.port}"
        return parts._replace(netloc=place).geturl()


@contextlib.contextmanager
def pooling(*urls: str) -> Iterator[Pooler]:
    """A PgBouncer before the databases of these URLs, for their users; the first may look at it."""
    pgbouncer()
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="shop-pgbouncer-"))
    parts = [urlsplit(url) for url in urls]
    databases = {each.path[1:]: f"host={each.hostname} port={each.port}" for each in parts}
    users = {each.username: unquote(each.password or "") for each in parts}
    (folder / "users").write_text("".join(f'"{name}" "{word}"\n' for name, word in users.items()))
    (folder / "ini").write_text(
        CONFIGURATION.format(
            databases="\n".join(f"{name} = {where}" for name, where in databases.items()),
            host=LOOPBACK,
            port=port,
            folder=folder,
            admin=parts[0].username,
            sessions=SESSIONS,
        )
    )
    try:
        with started(folder / "ini", port):
            yield Pooler(port, urls[0])
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def started(configuration: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A PgBouncer that reads this file and listens on this port; its folder becomes its own."""
    command = ["setpriv", "--pdeathsig", "KILL"]
    if os.geteuid() == 0:  # which it refuses to be
        nobody = pwd.getpwnam("nobody")
        for path in (configuration.parent, *configuration.parent.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        command += [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    process = subprocess.Popen([*command, pgbouncer(), "-q", str(configuration)])
    try:
        deadline = time.monotonic() + 20
        while is_free(port):
            assert process.poll() is None, "PgBouncer has ended"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait(10)
