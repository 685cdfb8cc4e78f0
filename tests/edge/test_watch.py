"""The port for probes and Prometheus."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.test_compose import CONTAINERS
from tests.edge.conftest import Shop, running

ROOT = Path(__file__).resolve().parents[2]


async def _ask(shop: Shop, path: str, verb: str = "GET") -> tuple[int, str]:
    answer = await shop.http.request(verb, f"http://{shop.edge.watch}{path}")
    return answer.status_code, answer.text


async def test_it_tells_whether_the_edge_is_ready_and_how_it_does(shop: Shop) -> None:
    assert await _ask(shop, "/ready") == (200, "LIVE\n")
    status, text = await _ask(shop, "/stats/prometheus")
    assert status == 200
    assert 'envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="edge"}' in text


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("POST", "/ready"),
        ("GET", "/config_dump"),
        ("GET", "/"),
        ("GET", "/stats"),
        ("POST", "/quitquitquit"),
        ("POST", "/drain_listeners"),
        ("GET", "/ready/../quitquitquit"),
    ],
)
async def test_nothing_else_of_the_admins_is_reached(shop: Shop, verb: str, path: str) -> None:
    status, _ = await _ask(shop, path, verb)
    assert status == 404


@pytest.mark.parametrize(("up", "status"), [(True, 0), (False, 1)])
async def test_the_health_check_of_its_container(shop: Shop, up: bool, status: int) -> None:
    """The very command of docker-compose.yml, but for the port."""
    kind, *command = CONTAINERS["edge"]["healthcheck"]["test"]
    assert kind == "CMD"
    port = shop.edge.watch.port if up and shop.edge.watch else 1
    command = [part.replace("/8010", f"/{port}") for part in command]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, check=False, timeout=10
    )
    assert done.returncode == status, done.stderr


async def test_what_kubernetes_runs_before_it_ends_a_pod(tmp_path: Path) -> None:
    """Clients are told to leave, and are answered until they have."""
    manifests = yaml.safe_load_all((ROOT / "deploy/kubernetes/base/edge.yaml").read_text())
    (pod,) = (one["spec"]["template"]["spec"] for one in manifests if one["kind"] == "Deployment")
    *shell, script = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    async with running(tmp_path) as shop:
        before = await shop.rest("GET", "/.well-known/jwks.json")
        assert "connection" not in before.headers
        script = re.sub(r"sleep \d+", "true", script).replace("/8009", f"/{shop.edge.admin.port}")
        done = await asyncio.to_thread(
            subprocess.run, [*shell, script], capture_output=True, check=False, timeout=10
        )
        assert done.returncode == 0, done.stderr
        after = await shop.rest("GET", "/.well-known/jwks.json")
        assert (after.status_code, after.headers["connection"]) == (200, "close")
