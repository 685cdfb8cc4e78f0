"""Kubernetes: what is told to whom, and who gets through to Postgres, a replica or a PgBouncer."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cli.topology import ALL_SERVICES
from services.kit.settings import ServiceSettings
from tests.deploy import understood
from tests.deploy.manifests import KUBERNETES, OPERATING, documents, of_base, rendered, template
from tests.deploy.reached import Manifest, is_reached, pod

POOLER = KUBERNETES / "components" / "pgbouncer"


class TestNames:
    """Whoever misspells a variable in a manifest would be told nothing by Kubernetes."""

    @staticmethod
    def _manifests() -> Iterator[Manifest]:
        for path in KUBERNETES.rglob("*.yaml"):
            if path.name != "kustomization.yaml":
                yield from (one for one in documents(path) if isinstance(one, dict))

    def test_of_what_each_service_is_told_are_its_settings(self) -> None:
        told = [
            (name, entry["name"])
            for document in self._manifests()
            if (name := document["metadata"]["name"]) in ALL_SERVICES
            for container in template(document).get("containers", ())
            for entry in container.get("env", ())
        ]
        assert len(told) > 20
        for service, name in told:
            assert understood.is_one(name, service), f"{service} does not know {name}"

    def test_of_what_all_are_told_are_somebodys_settings(self) -> None:
        told = [
            name
            for document in self._manifests()
            if document["kind"] == "ConfigMap"
            for name in document["data"]
        ]
        assert len(told) > 10
        for name in told:
            assert understood.is_one(name), f"nobody knows {name}"

    def test_of_entries_of_secrets_are_documented(self) -> None:
        for service in ALL_SERVICES:
            (container,) = template(of_base("Deployment", service))["containers"]
            for entry in container["env"]:
                if "valueFrom" in entry:
                    chosen = entry["valueFrom"]["secretKeyRef"]
                    assert chosen["name"] == service
                    assert f"`{chosen['key']}`" in OPERATING


@pytest.fixture(scope="module", params=["development", "replicated"])
def sandboxed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Manifest]:
    """What is applied to try the shop, with its secrets."""
    folder = KUBERNETES / "overlays" / request.param
    return rendered(folder, tmp_path_factory.mktemp(request.param))


def _settings(
    manifests: list[Manifest], service: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> ServiceSettings:
    """What a service makes of all that its pod is told."""
    kept = {
        one["metadata"]["name"]: {
            key: base64.b64decode(value) for key, value in one["data"].items()
        }
        for one in manifests
        if one["kind"] == "Secret"
    }
    spec = pod(manifests, service)["spec"]
    (container,) = spec["containers"]
    mounted = {volume["name"]: volume.get("secret") for volume in spec["volumes"]}
    (shared,) = (
        one["data"]
        for one in manifests
        if (one["kind"], one["metadata"]["name"]) == ("ConfigMap", "shop")
    )
    told = dict(shared)
    for entry in container["env"]:
        if "value" in entry:
            told[entry["name"]] = entry["value"]
        elif (chosen := entry["valueFrom"]["secretKeyRef"])["key"] in kept[chosen["name"]]:
            told[entry["name"]] = kept[chosen["name"]][chosen["key"]].decode()
    for mount in container["volumeMounts"]:
        secret = mounted[mount["name"]]
        for key, content in kept[secret["secretName"]].items() if secret else ():
            place = folder / mount["name"] / key
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(content)
    places = {
        mount["mountPath"]: str(folder / mount["name"])
        for mount in container["volumeMounts"]
        if mounted[mount["name"]]
    }
    for name, value in told.items():
        place = next((each for each in places if value.startswith(each)), "")
        monkeypatch.setenv(name, places.get(place, "") + value.removeprefix(place))
    loaded: ServiceSettings = import_module(f"services.{service}.__main__").Settings.load()
    return loaded


class TestDatabases:
    """Postgres, a replica of it and a PgBouncer: who is told of them, and gets through to them."""

    @pytest.mark.parametrize("service", ALL_SERVICES)
    def test_services_get_through_to_where_their_urls_lead(
        self,
        sandboxed: list[Manifest],
        service: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        settings = _settings(sandboxed, service, monkeypatch, tmp_path)
        urls = [settings.database_url, settings.direct_database_url]
        urls.append(getattr(settings, "replica_database_url", ""))
        places = [(urlsplit(url).hostname or "", urlsplit(url).port or 0) for url in urls if url]
        names = {one["metadata"]["name"] for one in sandboxed}
        if "pgbouncer" in names:
            expected = [("pgbouncer", 6432), ("postgres", 5432), ("postgres-replica", 5432)]
            assert places == expected[: 3 if service == "catalog" else 2]
        else:
            assert places == [("postgres", 5432)]
        assert {urlsplit(url).username for url in urls if url} == {f"shop_{service}"}
        for host, port in places:
            assert is_reached(sandboxed, service, host, port), f"{service} to {host}"

    def test_so_do_the_replica_and_the_pooler(self, sandboxed: list[Manifest]) -> None:
        names = {one["metadata"]["name"] for one in sandboxed}
        for source in {"postgres-replica", "pgbouncer"} & names:
            assert is_reached(sandboxed, source, "postgres", 5432)

    def test_and_nobody_else(self, sandboxed: list[Manifest]) -> None:
        names = {one["metadata"]["name"] for one in sandboxed}
        assert not is_reached(sandboxed, "edge", "postgres", 5432)
        if "pgbouncer" in names:
            for source in ("edge", "stripe", "migrate", "postgres-replica"):
                assert not is_reached(sandboxed, source, "pgbouncer", 6432)
            for source in ("edge", "users", "order", "pgbouncer"):
                assert not is_reached(sandboxed, source, "postgres-replica", 5432)

    def test_production_takes_a_pooler(self, tmp_path: Path) -> None:
        found = rendered(KUBERNETES / "overlays" / "production", tmp_path, POOLER)
        for volume in pod(found, "pgbouncer")["spec"]["volumes"]:
            if "secret" in volume:
                assert f"| `{volume['secret']['secretName']}` | `users`" in OPERATING
        for service in ALL_SERVICES:
            assert is_reached(found, service, "pgbouncer", 6432)
        assert not is_reached(found, "edge", "pgbouncer", 6432)
