"""`shop up` as a user meets it: the command, its processes, and what they leave behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import pytest

from cli.programs import die_with_parent
from cli.topology import SERVICES
from tests.postgres_fixtures import in_database

START_SECONDS = 60.0
SHOP = [str(Path(sys.executable).with_name("shop"))]


@dataclass
class Running:
    """A `shop up` that is ready."""

    process: subprocess.Popen[bytes]
    ready: Mapping[str, Any]
    data: Path
    seconds: float

    def children(self) -> dict[str, psutil.Process]:
        """What it keeps running, by name."""
        names = {}
        own = psutil.Process(self.process.pid)
        for child in own.children(recursive=True):
            try:
                command = " ".join(child.cmdline())
                kept = child.parent() == own
            except psutil.Error:
                continue
            forked = re.search(r"-m (?:services|sandbox)\.(\w+)", command)
            if forked:
                names[forked[1]] = child
            elif kept and command:  # an empty one is just ending
                names[Path(command.split()[0]).name] = child
        return names

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.ready["edge"] + path, headers=headers, timeout=10)


@contextmanager
def shop_up(data: Path, *options: str, **more: str) -> Iterator[Running]:
    ready_file = data.with_name("ready.json")
    ready_file.unlink(missing_ok=True)  # one that was killed left it
    command = [*SHOP, "up", "--port", "0", "--data", str(data)]
    command += ["--ready-file", str(ready_file), *options]
    log = data.with_name("log")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SHOP_")
    }
    started = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env=environment | more,
            preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - by the main thread
        )
    try:
        until(lambda: ready_file.exists() or process.poll() is not None, START_SECONDS)
        assert process.poll() is None, log.read_text()
        seconds = time.monotonic() - started
        yield Running(process, json.loads(ready_file.read_text()), data, seconds)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(60)


def until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def all_processes(running: Running) -> list[psutil.Process]:
    return psutil.Process(running.process.pid).children(recursive=True)


def is_running(process: psutil.Process) -> bool:
    """Zombies do not count: whoever has to collect them may not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The first run on a new data folder. `ended` is for tests that come after those of this."""
    with shop_up(tmp_path_factory.mktemp("shop") / "data") as running:
        assert running.ready["admin"]
        yield running


@dataclass
class Ended:
    """What became of a shop that Ctrl-C has ended."""

    data: Path
    products: Any
    """What there was to buy, in the end."""
    processes: list[psutil.Process]
    left: list[psutil.Process]
    status: int


@pytest.fixture(scope="module")
def ended(shop: Running) -> Ended:
    """The shop, no longer."""
    products = shop.get("/api/products/?page_size=1000").json()
    processes = all_processes(shop)
    shop.process.send_signal(signal.SIGINT)
    status = shop.process.wait(60)
    left = [process for process in processes if is_running(process)]
    return Ended(shop.data, products, processes, left, status)


def cpu_seconds(running: Running) -> float:
    """What all its processes have worked so far, together."""
    spent = 0.0
    for process in (psutil.Process(running.process.pid), *all_processes(running)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system + times.children_user + times.children_system
    return spent


def psql(url: str, statement: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(execute())


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SHOP, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
    )


class TestReady:
    def test_the_ready_file_says_where_everything_is(self, shop: Running) -> None:
        assert set(shop.ready) == {
            "edge",
            "services",
            "admin",
            "database_url",
            "mailbox",
            "stripe",
        }
        assert set(shop.ready["services"]) == set(SERVICES)
        for address in shop.ready["services"].values():
            host, port = address.split(":")
            socket.create_connection((host, int(port)), timeout=5).close()
        assert Path(shop.ready["mailbox"]).is_dir()
        mode = shop.data.with_name("ready.json").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600

    def test_the_edge_answers(self, shop: Running) -> None:
        assert shop.get("/api/products/").status_code == 200
        assert shop.get("/.well-known/jwks.json").json()["keys"]

    def test_the_administrator_can_sign_in(self, shop: Running) -> None:
        answer = httpx.post(shop.ready["edge"] + "/api/auth/login/", json=shop.ready["admin"])
        assert answer.status_code == 200
        users = shop.get("/api/users/", authorization=f"Bearer {answer.json()['access_token']}")
        assert [user["role"] for user in users.json()["users"]] == ["ADMIN"]

    def test_the_demo_is_loaded(self, shop: Running) -> None:
        products = shop.get("/api/products/?page_size=1000").json()["products"]
        assert len(products) == 58
        assert len({product["slug"] for product in products}) == 58

    def test_what_it_keeps_is_for_its_owner_alone(self, shop: Running) -> None:
        public = {"postgres", "web"}  # Postgres sees to it itself; pages are for everybody
        for path in (shop.data, *shop.data.rglob("*")):
            if public.isdisjoint(path.relative_to(shop.data).parts[:1]):
                assert not path.stat().st_mode & 0o077 or path.name == "lock", path

    def test_nobody_else_is_told_of_a_database(self, shop: Running) -> None:
        """What each service is told has a test of its own, in test_services."""
        for process in all_processes(shop):
            assert "DATABASE_URL" not in " ".join(process.environ())

    def test_nothing_that_was_to_be_expected_looks_like_a_failure(self, shop: Running) -> None:
        said = shop.data.with_name("log").read_text()
        assert "users 0001" in said  # it is the first start
        assert "FATAL" not in said
        assert "ERROR" not in said

    def test_a_second_one_on_the_same_folder_is_refused(self, shop: Running) -> None:
        ready_file = shop.data.with_name("ready.json")
        options = ("--data", str(shop.data), "--ready-file", str(ready_file))
        second = run("up", "--port", "0", *options)
        assert second.returncode == 1
        assert f"in use by another `shop up` (process {shop.process.pid})" in second.stderr
        assert json.loads(ready_file.read_text()) == shop.ready

    def test_a_taken_port_is_told(self, shop: Running, tmp_path: Path) -> None:
        port = shop.ready["edge"].rpartition(":")[2]
        second = run("up", "--port", port, "--data", str(tmp_path / "other"))
        assert second.returncode == 1
        assert f"Port {port} is taken" in second.stderr


class TestCommandsBesideIt:
    def test_migrate_finds_the_running_database(self, shop: Running) -> None:
        assert "Nothing to do" in run("migrate", "--data", str(shop.data)).stdout
        assert run("migrate", "--check", "--data", str(shop.data)).returncode == 0

    def test_a_token_signs_its_user_in(self, shop: Running) -> None:
        made = run("token", shop.ready["admin"]["email"], "--data", str(shop.data))
        me = shop.get("/api/users/me/", authorization=f"Bearer {made.stdout.strip()}")
        assert me.json()["email"] == shop.ready["admin"]["email"]

    def test_no_tokens_in_production(self, shop: Running) -> None:
        email = shop.ready["admin"]["email"]
        made = run("token", email, "--data", str(shop.data), SHOP_ENV="production")
        assert made.returncode == 1
        assert made.stdout == ""

    def test_another_administrator(self, shop: Running) -> None:
        made = run("create-admin", "Second@shop.example", "--data", str(shop.data))
        password = made.stdout.split("The password is ")[1].strip()
        login = {"email": "second@shop.example", "password": password}
        answer = httpx.post(shop.ready["edge"] + "/api/auth/login/", json=login)
        assert answer.json()["user"]["role"] == "ADMIN"
        again = run("create-admin", "second@shop.example", "--data", str(shop.data))
        assert "the password is the same as before" in again.stdout

    @pytest.mark.parametrize(
        ("email", "password", "reason"),
        [
            ("not an address", "correct horse battery", "email"),
            ("third@shop.example", "short", "password"),
            ("third@shop.example", "password123", "common"),
        ],
    )
    def test_an_administrator_that_the_service_would_refuse(
        self, shop: Running, email: str, password: str, reason: str
    ) -> None:
        made = run("create-admin", email, "--password", password, "--data", str(shop.data))
        assert made.returncode == 1
        assert reason in made.stderr

    def test_doctor_finds_it_well(self, shop: Running) -> None:
        found = run("doctor", "--data", str(shop.data))
        assert found.returncode == 0, found.stdout
        for name in SERVICES:
            assert f"{name} at {shop.ready['services'][name]} is ready" in found.stdout
        assert "the edge at" in found.stdout
        assert "migrated" in found.stdout

    def test_top_shows_every_process(self, shop: Running) -> None:
        shown = run("top", "--json", "--seconds", "0.1", "--data", str(shop.data))
        assert shown.returncode == 0, shown.stderr
        told = json.loads(shown.stdout)
        assert set(told["processes"]) == set(SERVICES)
        assert told["away"] == []

    def test_seed_adds_products_that_can_be_found(self, shop: Running) -> None:
        before = len(shop.get("/api/products/?page_size=1000").json()["products"])
        for _ in range(2):
            assert run("seed", "--products", "20", "--data", str(shop.data)).returncode == 0
        products = shop.get("/api/products/?page_size=1000").json()["products"]
        assert len(products) == before + 40
        assert shop.get(f"/api/products/{products[0]['slug']}/").json() == products[0]


class TestElsewhere:
    def test_a_named_database_is_used_as_it_is(self, postgres_url: str, tmp_path: Path) -> None:
        """No Postgres of its own is started, and nothing is put in but tables."""
        database = f"elsewhere_{os.getpid()}"
        psql(postgres_url, f"CREATE DATABASE {database}")
        url = in_database(postgres_url, database)
        try:
            with shop_up(tmp_path / "data", SHOP_DATABASE_URL=url) as running:
                assert set(running.children()) == {*SERVICES, "stripe", "envoy", "shop"}
                assert running.ready["database_url"] == url
                assert running.ready["admin"] is None
                assert running.get("/api/products/").json()["products"] == []
        finally:
            psql(postgres_url, f"DROP DATABASE {database} WITH (FORCE)")


class TestTheEnd:
    def test_ctrl_c_ends_all(self, ended: Ended) -> None:
        assert len(ended.processes) > 4
        assert ended.status == 0
        assert ended.left == []
        assert not ended.data.with_name("ready.json").exists()

    def test_the_second_start_is_quick_and_a_lost_terminal_ends_it(self, ended: Ended) -> None:
        with shop_up(ended.data) as running:
            # Six seconds of two cores; how long that is beside other tests says little.
            assert running.seconds <= 6 or cpu_seconds(running) <= 2 * 6
            # The demo is loaded once.
            assert running.get("/api/products/?page_size=1000").json() == ended.products
            processes = all_processes(running)
            running.process.send_signal(signal.SIGHUP)
            assert running.process.wait(60) == 0
            assert [process for process in processes if is_running(process)] == []
        assert not ended.data.with_name("ready.json").exists()

    def test_one_that_is_stopped_while_it_starts_leaves_nobody(self, tmp_path: Path) -> None:
        command = [*SHOP, "up", "--port", "0", "--data", str(tmp_path / "data")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            until(lambda: psutil.Process(process.pid).children(), 30)
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        assert not [child for child in children if is_running(child)]
