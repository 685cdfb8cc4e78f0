"""A replica and a PgBouncer in containers: what compose and the manifests say of them."""

from __future__ import annotations

import configparser
import re
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cli import deployment_secrets
from cli.topology import ALL_SERVICES
from services.kit.settings import ServiceSettings
from tests.deploy.manifests import KUBERNETES, documents
from tests.deploy.test_compose import BESIDE, CONTAINERS
from tools import dockerfile

ROOT = KUBERNETES.parents[1]
REPLICA = KUBERNETES / "components" / "replica"
POOLER = KUBERNETES / "components" / "pgbouncer"
# Connections that a process keeps for news, and those of tools: docs/scale.md.
LISTENERS, TOOLS = 5, 15


def told(arguments: list[str]) -> dict[str, str]:
    """The settings of a Postgres that is started so."""
    assert len(arguments) % 2 == 0
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    found = {}
    for option, pair in pairs:
        assert option == "-c"
        name, _, value = pair.partition("=")
        found[name] = value
    return found


def container(file: Path, kind: str) -> dict[str, Any]:
    """The only container of the only document of a kind."""
    (found,) = (one for one in documents(file) if one["kind"] == kind)
    (inside,) = found["spec"]["template"]["spec"]["containers"]
    return dict(inside)


_SANDBOX = container(KUBERNETES / "components" / "sandbox" / "postgres.yaml", "StatefulSet")
_FOLLOWED = container(REPLICA / "postgres-is-followed.yaml", "StatefulSet")
_REPLICA = container(REPLICA / "replica.yaml", "StatefulSet")
# How Postgres is started by itself, how when it is followed, and how its replica is.
STARTS = {
    "compose": (
        CONTAINERS["postgres"]["command"][1:],
        BESIDE["postgres"]["command"][1:],
        BESIDE["postgres-replica"]["command"],
    ),
    "kubernetes": (_SANDBOX["args"][1:], _FOLLOWED["args"][1:], _REPLICA["args"]),
}


def ini() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(comment_prefixes=";", interpolation=None)
    parser.read_string((POOLER / "pgbouncer.ini").read_text())
    return parser


def secrets_of_compose(folder: Path) -> list[Path]:
    """Made as its container makes them."""
    *command, replica, at_replica, pooler, at_pooler = BESIDE["secrets"]["command"]
    assert (command, replica, pooler) == (["shop", "secrets", "/secrets"], "--replica", "--pooler")
    return deployment_secrets.write(folder, replica=at_replica, pooler=at_pooler)


@pytest.mark.parametrize("where", STARTS)
class TestStarts:
    def test_a_postgres_that_is_followed_is_otherwise_the_same(self, where: str) -> None:
        alone, followed, _ = map(told, STARTS[where])
        assert followed.items() >= alone.items()
        assert followed.keys() - alone.keys() == {"hba_file", "wal_keep_size"}

    def test_a_replica_takes_as_many_connections(self, where: str) -> None:
        """Or Postgres does not start it."""
        _, followed, replica = map(told, STARTS[where])
        assert replica["max_connections"] == followed["max_connections"]

    def test_sessions_of_the_poolers_fit_into_postgres(self, where: str) -> None:
        _, followed, _ = map(told, STARTS[where])
        if where == "compose":
            poolers, processes = 1, CONTAINERS["users"]["deploy"]["replicas"]
        else:
            (deployment,) = (
                one for one in documents(POOLER / "pgbouncer.yaml") if one["kind"] == "Deployment"
            )
            poolers, processes = deployment["spec"]["replicas"] + 1, 2  # one more while it rolls
        sessions = poolers * len(ALL_SERVICES) * int(ini()["pgbouncer"]["default_pool_size"])
        most = int(followed["max_connections"])
        assert sessions + processes * LISTENERS + TOOLS <= most


class TestCompose:
    def test_both_ways_of_running_use_the_same_files(self) -> None:
        mounted = [
            ROOT / volume.split(":")[0]
            for container in BESIDE.values()
            for volume in container.get("volumes", ())
            if volume.startswith("./deploy/kubernetes")
        ]
        assert sorted(path.name for path in mounted) == [
            *("pg_hba.conf", "pgbouncer.ini", "replica.sh"),
        ]
        assert BESIDE["postgres-replica"]["entrypoint"] == _REPLICA["command"]
        assert BESIDE["postgres-replica"]["image"] == CONTAINERS["postgres"]["image"]
        assert _REPLICA["image"] == _SANDBOX["image"] == CONTAINERS["postgres"]["image"]

    def test_makes_all_secrets_where_each_container_looks(self, tmp_path: Path) -> None:
        made = secrets_of_compose(tmp_path)
        mounted = {one.split(":")[1] for one in BESIDE["secrets"]["volumes"]}
        assert {f"/secrets/{path.relative_to(tmp_path).parts[0]}" for path in made} == mounted
        owned = (ROOT / "Dockerfile").read_text().partition("for name in ")[2].partition(";")[0]
        assert {f"/secrets/{name}" for name in owned.split()} >= mounted

    def test_a_shop_that_was_there_before_gets_what_is_missing(self, tmp_path: Path) -> None:
        before = {path: path.read_text() for path in deployment_secrets.write(tmp_path)}
        added = deployment_secrets.write(tmp_path, replica="a:1", pooler="b:2")
        assert len(added) == len(ALL_SERVICES) + 2
        assert {path: path.read_text() for path in before} == before
        assert deployment_secrets.write(tmp_path, replica="a:1", pooler="b:2") == []

    @pytest.mark.parametrize("service", ALL_SERVICES)
    def test_services_are_told_where_they_all_are(
        self, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secrets_of_compose(tmp_path)
        for name, value in BESIDE[service]["environment"].items():
            if value is not None:
                place = str(tmp_path / service)
                monkeypatch.setenv(name, value.replace("/run/shop", place))
        settings: ServiceSettings = import_module(f"services.{service}.__main__").Settings.load()
        urls = [settings.database_url, settings.direct_database_url]
        urls.append(getattr(settings, "replica_database_url", ""))
        places = [(urlsplit(url).hostname, urlsplit(url).port) for url in urls if url]
        expected = [("pgbouncer", 6432), ("postgres", 5432), ("postgres-replica", 5432)]
        assert places == expected[: 3 if service == "catalog" else 2]
        assert {host for host, _ in places} <= BESIDE.keys()
        assert {urlsplit(url).username for url in urls if url} == {f"shop_{service}"}


def test_pgbouncer_is_the_one_that_is_tested() -> None:
    (stage,) = dockerfile.read(ROOT / "deploy" / "pgbouncer" / "Dockerfile")
    (installing,) = (step.text for step in stage.steps if step.word == "RUN")
    assert "install --yes --no-install-recommends pgbouncer " in installing
    user = stage.last("USER")
    pods = documents(POOLER / "pgbouncer.yaml")
    (context,) = (
        one["spec"]["template"]["spec"]["securityContext"]
        for one in pods
        if one["kind"] == "Deployment"
    )
    assert user is not None
    assert user.text == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_kubernetes_ends_it_the_same_way() -> None:
    (deployment,) = (
        one for one in documents(POOLER / "pgbouncer.yaml") if one["kind"] == "Deployment"
    )
    pod = deployment["spec"]["template"]["spec"]
    stopping = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    waits = [int(number) for number in re.findall(r"sleep (\d+)", stopping)]
    assert "kill -INT 1" in stopping
    assert sum(waits) < pod["terminationGracePeriodSeconds"]
