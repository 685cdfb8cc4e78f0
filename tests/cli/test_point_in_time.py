"""docs/operating.md, "To a point in time": its commands, on a Postgres that archives its WAL."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from cli.postgres import Cluster, serve
from cli.postgres_binaries import find_tool
from cli.topology import free_port
from tests.shop import command

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operating.md"
(TEXT,) = re.findall(r"### To a point in time.*?```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that whoever runs Postgres can reach."""
    made = Path(tempfile.mkdtemp(prefix="shop-point-in-time-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def setting(name: str) -> str:
    found = re.search(rf"{name} = ('[^']*'|\w+)", TEXT)
    assert found is not None
    return found[1]


def hand_over(path: Path, like: Path) -> None:
    """Postgres runs as somebody else when the tests run as root."""
    owner = like.stat()
    for each in (path, *path.rglob("*")):
        os.chown(each, owner.st_uid, owner.st_gid)


async def test_what_was_lost_by_mistake_is_there_again(folder: Path) -> None:
    archive, base = folder / "archive", folder / "base"
    archive.mkdir()
    before = Cluster(folder / "before", folder / "password", free_port())
    before.create()
    hand_over(archive, like=before.data)
    archiving = setting("archive_command").replace("/archive/", f"{archive}/")
    with (before.data / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"archive_mode = on\narchive_command = {archiving}\n")
    with serve(before, folder / "log"):
        connection = await asyncpg.connect(before.url("postgres"))
        await connection.execute("CREATE TABLE orders (id int)")
        (line,) = re.findall(r"^pg_basebackup (.*?) +#", TEXT, re.MULTILINE)
        done = await command(
            find_tool("pg_basebackup", at_least=18),
            *line.replace("/base/monday", str(base)).split(),
            f"--dbname={before.url('postgres')}",
        )
        assert done.returncode == 0, done.stderr
        await connection.execute("INSERT INTO orders SELECT generate_series(1, 100)")
        moment = await connection.fetchval("SELECT clock_timestamp()::text")
        await connection.execute("DELETE FROM orders")
        # What closes a segment in a minute, or when the server ends.
        wanted = await connection.fetchval("SELECT pg_walfile_name(pg_switch_wal())")
        await connection.close()
        async with asyncio.timeout(30):
            while not (archive / wanted).exists():
                await asyncio.sleep(0.05)

    after = Cluster(folder / "after", folder / "password", free_port())
    shutil.copytree(base, after.data)
    (settings_of_restore,) = re.findall(r"<<'END'\n(.*?)END", TEXT, re.DOTALL)
    told = settings_of_restore.replace("/archive/", f"{archive}/")
    told = re.sub(r"(recovery_target_time = )'[^']*'", rf"\1'{moment}'", told)
    with (after.data / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"archive_mode = off\n{told}")
    (after.data / "recovery.signal").touch()
    hand_over(after.data, like=before.data)
    with serve(after, folder / "log"):
        connection = await asyncpg.connect(after.url("postgres"))
        assert await connection.fetchval("SELECT count(*) FROM orders") == 100
        async with asyncio.timeout(30):
            while await connection.fetchval("SELECT pg_is_in_recovery()"):
                await asyncio.sleep(0.05)
        await connection.execute("INSERT INTO orders VALUES (101)")
        await connection.close()
