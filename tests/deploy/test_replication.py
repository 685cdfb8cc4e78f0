"""A replica and a PgBouncer as containers start them: the files of both, at work.

A real Postgres takes the replica's script and the file that lets it in, a real PgBouncer its own
and the list of users, as nobody in particular. Images, volumes and networks are not there.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from cli import deployment_secrets
from cli.database import databases_of, ensure_database, prepare
from cli.postgres import Cluster, serve
from cli.postgres_binaries import find_binaries, find_tool
from cli.topology import ALL_SERVICES, LOOPBACK, free_port
from tests import pgbouncer
from tests.deploy.test_compose import BESIDE
from tests.deploy.test_replicated import POOLER, REPLICA, ROOT, STARTS, told
from tools import dockerfile
from tools.standby import FOLLOWED


@dataclass(frozen=True)
class Place:
    """A Postgres that is followed, with everybody's secrets as files."""

    folder: Path
    primary: Cluster
    owner: asyncpg.Connection
    replica_port: int
    pooler_port: int

    def url(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text()

    @contextmanager
    def replica(self) -> Iterator[subprocess.Popen[bytes]]:
        """The replica's container: its script, told what both files tell it."""
        command = ["setpriv", "--pdeathsig", "INT"]
        if os.geteuid() == 0:
            command += ["--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        command += ["sh", str(REPLICA / "replica.sh"), *STARTS["compose"][2]]
        more = {"port": f"{self.replica_port}", "listen_addresses": LOOPBACK, "fsync": "off"}
        more["unix_socket_directories"] = ""
        for name, value in more.items():
            command += ["-c", f"{name}={value}"]
        environment = {
            **BESIDE["postgres-replica"]["environment"],
            "PRIMARY": LOOPBACK,
            "PRIMARY_PORT": str(self.primary.port),
            "POSTGRES_PASSWORD_FILE": str(self.folder / "password"),
            "PGDATA": str(self.folder / "volume" / "18" / "docker"),
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
        }
        with (self.folder / "replica.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=self.folder / "volume"
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)

    async def read(self, sql: str) -> Any:
        """What the replica answers the catalogue, once it does."""
        async with asyncio.timeout(30):
            while True:
                try:
                    connection = await asyncpg.connect(self.url("catalog/replica-database-url"))
                except (OSError, asyncpg.PostgresError):
                    await asyncio.sleep(0.1)
                    continue
                try:
                    return await connection.fetchval(sql)
                finally:
                    await connection.close()

    async def shows(self, number: int) -> None:
        """Wait until the replica has so many rows."""
        async with asyncio.timeout(30):
            while await self.read("SELECT count(*) FROM catalog.seen") != number:
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="shop-replicated-"))
    folder.chmod(0o755)
    (folder / "bin").mkdir()
    binaries = {
        "postgres": find_binaries() / "postgres",
        "pg_basebackup": find_tool("pg_basebackup", at_least=0),
    }
    for name, program in binaries.items():
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {program} "$@"\n')
    # As the image's own does for whoever is not root.
    (folder / "bin" / "docker-entrypoint.sh").write_text('#!/bin/sh\nexec "$@"\n')
    for script in (folder / "bin").iterdir():
        script.chmod(0o755)
    shutil.copy(REPLICA / "pg_hba.conf", folder / "pg_hba.conf")
    settings = FOLLOWED | told(STARTS["compose"][1]) | {"hba_file": str(folder / "pg_hba.conf")}
    primary = Cluster(
        folder / "primary", folder / "secrets/postgres/password", free_port(), False, 1, settings
    )
    primary.create()
    shutil.copy(primary.password_file, folder / "password")
    (folder / "volume").mkdir()
    if os.geteuid() == 0:
        for path in (folder / "volume", folder / "password"):
            shutil.chown(path, "nobody", "nogroup")
    with serve(primary, folder / "primary.log"):
        await ensure_database(primary.url("postgres"), "shop")
        owner = await asyncpg.connect(primary.url())
        (database,) = databases_of(primary.url()).places()
        await prepare(owner, database)
        await owner.execute("CREATE TABLE catalog.seen (number int)")
        ports = free_port(), free_port()
        deployment_secrets.write(
            folder / "secrets",
            host=LOOPBACK,
            port=primary.port,
            replica=f"{LOOPBACK}:{ports[0]}",
            pooler=f"{LOOPBACK}:{ports[1]}",
        )
        yield Place(folder, primary, owner, *ports)
        await owner.close()
    shutil.rmtree(folder)


async def test_the_replica_copies_once_and_follows(place: Place) -> None:
    await place.owner.execute("INSERT INTO catalog.seen VALUES (1)")
    marked = place.folder / "volume" / "18" / "docker" / "marked"
    with place.replica():
        assert await place.read("SELECT pg_is_in_recovery()") is True
        await place.owner.execute("INSERT INTO catalog.seen VALUES (2)")
        await place.shows(2)
        marked.touch()
    await place.owner.execute("INSERT INTO catalog.seen VALUES (3)")
    # A copy that was broken off is none.
    unfinished = marked.parent.with_name("docker.unfinished")
    assert not unfinished.exists()
    with place.replica():
        await place.shows(3)
    assert marked.exists()
    shutil.rmtree(marked.parent)
    unfinished.mkdir()
    if os.geteuid() == 0:
        shutil.chown(unfinished, "nobody", "nogroup")
    (unfinished / "left").touch()
    with place.replica():
        await place.shows(3)
    assert not (marked.parent / "left").exists()
    assert not marked.exists()


async def test_nobody_replicates_without_the_owners_password(place: Place) -> None:
    url = place.url("catalog/database-url")
    with pytest.raises(asyncpg.PostgresError, match=r"no pg_hba\.conf entry for replication"):
        await asyncpg.connect(url, server_settings={"replication": "true"})


async def test_all_services_come_through_pgbouncer(place: Place) -> None:
    folder = place.folder / "pgbouncer"
    folder.mkdir()
    shutil.copy(place.folder / "secrets/pgbouncer/users", folder / "users")
    text = (POOLER / "pgbouncer.ini").read_text()
    for here, there in {
        "host=postgres port=5432": f"host={LOOPBACK} port={place.primary.port}",
        "listen_port = 6432": f"listen_port = {place.pooler_port}",
        "listen_addr = *": f"listen_addr = {LOOPBACK}",
        "/run/shop/users": str(folder / "users"),
    }.items():
        assert here in text
        text = text.replace(here, there)
    (folder / "pgbouncer.ini").write_text(text)
    with pgbouncer.started(folder / "pgbouncer.ini", place.pooler_port) as process:
        for service in ALL_SERVICES:
            connection = await asyncpg.connect(place.url(f"{service}/pooler-database-url"))
            assert await connection.fetchval("SELECT current_user") == f"shop_{service}"
            async with connection.transaction():
                first = await connection.fetchval("SELECT pg_backend_pid()")
                assert await connection.fetchval("SELECT pg_backend_pid()") == first
            await connection.close()
        # Told to end as its container is, it waits for who is in the middle of something.
        catalog = await asyncpg.connect(place.url("catalog/pooler-database-url"))
        async with catalog.transaction():
            await catalog.execute("INSERT INTO catalog.seen VALUES (4)")
            stop = dockerfile.read(ROOT / "deploy/pgbouncer/Dockerfile")[0].last("STOPSIGNAL")
            assert stop is not None
            process.send_signal(signal.Signals[stop.text])
            await asyncio.sleep(0.5)
        catalog.terminate()
        assert await asyncio.to_thread(process.wait, 30) == 0
    assert await place.owner.fetchval("SELECT true FROM catalog.seen WHERE number = 4")
