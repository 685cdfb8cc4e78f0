"""The Kubernetes manifests: valid, whole, and true of what they start."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import kubernetes_validate
import pytest

from cli import deployment_secrets, edge
from cli.edge_traces import collector
from cli.topology import ALL_SERVICES
from services.kit.server import LIVE
from tests.deploy.manifests import (
    BASE,
    KUBERNETES,
    OF_BASE,
    ROOT,
    documents,
    kustomization,
    of_base,
    rendered,
    resources,
    template,
)
from tests.deploy.reached import NAME, Manifest

OVERLAYS = sorted((KUBERNETES / "overlays").iterdir())
# It would read the same megabytes of schemas for each document.
kubernetes_validate.utils.schema_contents = functools.cache(
    kubernetes_validate.utils.schema_contents
)


COMPONENTS = sorted((KUBERNETES / "components").iterdir())
TRACES = KUBERNETES / "components" / "traces"
EVERYTHING = {
    f"{path.relative_to(KUBERNETES)} {document['kind']} {document['metadata']['name']}": document
    for folder in (*OVERLAYS, *COMPONENTS)
    for path, document in resources(folder)
}


def pods() -> Iterator[tuple[str, Manifest]]:
    for name, document in EVERYTHING.items():
        if "template" in document.get("spec", {}):
            yield name, document["spec"]["template"]["spec"]


PODS = dict(pods())


@pytest.mark.parametrize("document", EVERYTHING.values(), ids=EVERYTHING.keys())
def test_kubernetes_knows_every_field(document: Manifest) -> None:
    kubernetes_validate.validate(document, "1.34", strict=True)


def test_the_check_finds_what_is_wrong() -> None:
    spoilt = {**of_base("Service", "users"), "specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(spoilt, "1.34", strict=True)


class TestKustomizations:
    @pytest.mark.parametrize(
        "folder", [BASE, *OVERLAYS, *COMPONENTS], ids=lambda folder: folder.name
    )
    def test_name_every_file_that_is_there_and_no_other(self, folder: Path) -> None:
        told = kustomization(folder)
        named = {name for name in told["resources"] if name.endswith(".yaml")}
        named |= {patch["path"] for patch in told.get("patches", [])}
        for generated in told.get("configMapGenerator", []):
            named |= set(generated["files"])
        there = {path.name for path in folder.iterdir() if path.is_file()}
        assert named == there - {"kustomization.yaml"}

    @pytest.mark.parametrize("folder", [*OVERLAYS, *COMPONENTS], ids=lambda folder: folder.name)
    def test_patch_what_exists(self, folder: Path) -> None:
        """Components are for what overlays have."""
        within = [folder] if folder in OVERLAYS else OVERLAYS
        there = [
            (document["kind"], document["metadata"]["name"])
            for each in within
            for _, document in resources(each)
        ]
        for patch in kustomization(folder).get("patches", ()):
            if "target" in patch:
                assert patch["target"].keys() == {"kind"}
                assert patch["target"]["kind"] in {kind for kind, _ in there}
            else:
                for document in documents(folder / patch["path"]):
                    assert (document["kind"], document["metadata"]["name"]) in there

    @pytest.mark.parametrize("traced", [False, True], ids=["", "with traces"])
    @pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
    def test_kubectl_renders_them(self, folder: Path, traced: bool, tmp_path: Path) -> None:
        documents = rendered(folder, tmp_path, *([TRACES] if traced else []))
        for document in documents:
            kubernetes_validate.validate(document, "1.34", strict=True)
            assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == "shop"
        (told,) = (
            one["data"]
            for one in documents
            if (one["kind"], one["metadata"]["name"]) == ("ConfigMap", "shop")
        )
        assert ("OTEL_EXPORTER_OTLP_ENDPOINT" in told) == traced
        secrets = {one["metadata"]["name"] for one in documents if one["kind"] == "Secret"}
        mounted = {
            volume["secret"]["secretName"]
            for one in documents
            for volume in template(one).get("volumes", [])
            if "secret" in volume
        }
        if folder.name == "production":
            said = (folder / "kustomization.yaml").read_text()
            assert all(name in said for name in mounted)
            assert not secrets
        else:
            assert secrets == mounted


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS.keys())
class TestEveryPod:
    def test_is_nobody_and_has_no_way_up(self, pod: Manifest) -> None:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }

    def test_asks_for_what_it_needs_and_no_more_than_its_limit(self, pod: Manifest) -> None:
        for container in pod["containers"] + pod.get("initContainers", []):
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}
            assert set(container["resources"]["limits"]) == {"memory"}

    def test_has_the_volumes_that_it_mounts(self, pod: Manifest) -> None:
        volumes = {volume["name"] for volume in pod.get("volumes", [])} | {"data"}
        for container in pod["containers"] + pod.get("initContainers", []):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


@pytest.mark.parametrize("service", ALL_SERVICES)
class TestServices:
    @staticmethod
    def _pod(service: str) -> Manifest:
        return template(of_base("Deployment", service))

    def test_have_all_that_a_service_has(self, service: str) -> None:
        for kind in ("Service", "ServiceAccount", "NetworkPolicy", "HorizontalPodAutoscaler"):
            of_base(kind, service)
        budget = of_base("PodDisruptionBudget", service)
        labels = of_base("Deployment", service)["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert of_base("Service", service)["spec"]["selector"].items() <= labels.items()
        assert self._pod(service)["serviceAccountName"] == service

    def test_are_told_what_makes_them_start(
        self, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With the secrets that `shop secrets` makes, and those of Stripe and the mail server."""
        deployment_secrets.write(tmp_path)
        (tmp_path / service / "stripe-secret-key").write_text("sk_test_1")
        (tmp_path / "mail").mkdir()
        (tmp_path / "mail" / "smtp-url").write_text("smtp://mail.example:587")
        places = {
            "/run/shop/own": str(tmp_path / service),
            "/run/shop/keys": str(tmp_path / "users" / "keys"),
            "/run/shop/mail": str(tmp_path / "mail"),
        }
        (container,) = self._pod(service)["containers"]
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        told = dict(of_base("ConfigMap", "shop")["data"])
        for entry in container["env"]:
            if "value" not in entry:
                assert entry["valueFrom"]["secretKeyRef"]["optional"] is True
                continue
            value = entry["value"]
            for inside, outside in places.items():
                if value.startswith(inside):
                    assert inside in mounted
                    value = value.replace(inside, outside)
            told[entry["name"]] = value
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        settings = import_module(f"services.{service}.__main__").Settings.load()
        assert f"postgresql://shop_{service}:" in settings.database_url
        assert settings.env == "production"

    def test_are_where_the_edge_and_the_others_look(self, service: str) -> None:
        (address,) = edge.Edge.compose().services[service]
        (port,) = of_base("Service", service)["spec"]["ports"]
        (container,) = self._pod(service)["containers"]
        assert (address.host, address.port) == (service, port["port"])
        assert of_base("ConfigMap", "shop")["data"][f"SHOP_{service.upper()}_ADDRESS"] == str(
            address
        )
        assert {"name": "SHOP_LISTEN", "value": f"0.0.0.0:{address.port}"} in container["env"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["grpc"]["port"] == address.port
        assert container["command"] == ["python", "-OO", "-m", f"services.{service}"]

    def test_are_not_restarted_for_what_their_database_does(self, service: str) -> None:
        (container,) = self._pod(service)["containers"]
        assert container["livenessProbe"]["grpc"]["service"] == LIVE
        assert "service" not in container["readinessProbe"]["grpc"]

    def test_get_longer_to_end_than_they_take(self, service: str) -> None:
        pod = self._pod(service)
        fields = import_module(f"services.{service}.__main__").Settings.described()
        before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["terminationGracePeriodSeconds"] >= before + fields["drain_seconds"].default + 10

    def test_are_alone_with_their_secret(self, service: str) -> None:
        for name, pod in PODS.items():
            secrets = {
                volume["secret"]["secretName"]
                for volume in pod.get("volumes", [])
                if "secret" in volume
            }
            assert (service in secrets) == (f"Deployment {service}" in name)

    def test_are_reached_by_the_edge_and_those_who_call_them(self, service: str) -> None:
        policy = of_base("NetworkPolicy", service)["spec"]
        (address,) = edge.Edge.compose().services[service]
        calls, _ = policy["ingress"]
        assert calls["ports"] == [{"port": address.port}]
        allowed = {peer["podSelector"]["matchLabels"][NAME] for peer in calls["from"]}
        callers = {
            other
            for other in ALL_SERVICES
            if f"{service}_address"
            in import_module(f"services.{other}.__main__").Settings.described()
        }
        assert allowed == callers | {"edge"}

    def test_reach_those_whom_they_call(self, service: str) -> None:
        rules = of_base("NetworkPolicy", service)["spec"]["egress"]
        allowed = {
            peer["podSelector"]["matchLabels"][NAME]
            for rule in rules
            for peer in rule.get("to", [])
        }
        fields = import_module(f"services.{service}.__main__").Settings.described()
        assert allowed == {name for name in ALL_SERVICES if f"{name}_address" in fields}


def test_nobody_reaches_anybody_unless_a_policy_says_so() -> None:
    nobody = of_base("NetworkPolicy", "nobody")["spec"]
    assert nobody == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_payments_reach_the_same_services_when_stripe_is_a_sandbox() -> None:
    """The overlay repeats the list, which kustomize would replace."""
    base = of_base("NetworkPolicy", "payment")["spec"]["egress"]
    patches = documents(KUBERNETES / "components" / "sandbox" / "stripe-is-here.yaml")
    (patch,) = (one for one in patches if one["kind"] == "NetworkPolicy")
    stripe = {"ports": [{"port": 443}]}
    assert [rule for rule in base if rule != stripe] == patch["spec"]["egress"][:-1]


def test_the_edge_reckons_with_as_many_pods_as_there_can_be() -> None:
    for document in OF_BASE:
        if document["kind"] == "HorizontalPodAutoscaler":
            assert document["spec"]["maxReplicas"] <= edge.Edge.compose().replicas


def test_the_edge_reads_the_contract_where_its_configuration_says() -> None:
    pod = template(of_base("Deployment", "edge"))
    (making,), (envoy,) = pod["initContainers"], pod["containers"]
    here = edge.Edge.compose()
    assert here.web is not None
    (mount,) = envoy["volumeMounts"]
    assert mount["mountPath"] == envoy["workingDir"]
    assert [one["mountPath"] for one in making["volumeMounts"]] == [mount["mountPath"]]
    assert making["command"] == [
        "sh",
        "-c",
        (
            f"cp -r {here.web} {here.descriptors.parent} {mount['mountPath']}"
            f" && shop edge > {mount['mountPath']}/{envoy['args'][1]}"
        ),
    ]
    assert {"configMapRef": {"name": "shop"}} in making["envFrom"]
    # Pages are made when the image is built: see the Dockerfile.
    assert f"python -m cli.web {here.web}" in (ROOT / "Dockerfile").read_text()
    assert envoy["args"][2:4] == ["--concurrency", "2"]
    for argument in envoy["args"][4:]:
        assert argument in edge.ARGUMENTS


def test_traces_reach_the_collector_from_the_edge_and_from_all_services() -> None:
    (told,) = documents(TRACES / "told.yaml")
    found = collector(told["data"])
    assert found is not None
    assert found.percent == 10
    (policy,) = documents(TRACES / "policy.yaml")
    assert policy["spec"]["egress"] == [{"ports": [{"port": found.address.port}]}]
    named = {name: one for name, one in EVERYTHING.items() if "components" in name}
    (jaeger,) = (one for name, one in named.items() if name.endswith("Service jaeger"))
    assert jaeger["metadata"]["name"] == found.address.host
    assert found.address.port in {port["port"] for port in jaeger["spec"]["ports"]}
    (lets_in,) = (one for name, one in named.items() if name.endswith("NetworkPolicy jaeger"))
    (peer,) = lets_in["spec"]["ingress"][0]["from"]
    assert peer["podSelector"] == policy["spec"]["podSelector"]
    (selected,) = policy["spec"]["podSelector"]["matchExpressions"]
    assert set(selected["values"]) == {"edge", *ALL_SERVICES}
