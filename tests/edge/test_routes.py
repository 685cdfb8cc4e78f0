"""Which calls reach a method, and that no other does."""

from __future__ import annotations

import re

import grpc
import httpx
import pytest

from cli.edge import DESCRIPTORS
from cli.rpcs import Binding, Rpc, public_rpcs
from cli.topology import SERVICES
from shop.users.v1 import users_pb2
from tests.edge.conftest import Shop
from tests.edge.h2 import h2_request
from tests.edge.refused import assert_refused, grpc_refused
from tools.contract import load

RPCS = [rpc for rpc in public_rpcs(DESCRIPTORS.read_bytes(), SERVICES) if rpc.name != "GetJwks"]
BINDINGS = [(rpc, binding) for rpc in RPCS for binding in rpc.bindings]
NAMES = [f"{binding.verb} {binding.template}" for _, binding in BINDINGS]


def example(binding: Binding) -> tuple[str, dict[str, str]]:
    """A path of the binding, and the fields in it."""
    fields = {name: f"{name}-7" for name in binding.variables}
    return re.sub(r"\{(\w+)\}", lambda found: fields[found[1]], binding.template), fields


class TestRest:
    @pytest.mark.parametrize(("rpc", "binding"), BINDINGS, ids=NAMES)
    @pytest.mark.parametrize("slash", ["", "/"], ids=["bare", "slash"])
    async def test_every_rule_reaches_its_method(
        self, shop: Shop, rpc: Rpc, binding: Binding, slash: str
    ) -> None:
        path, fields = example(binding)
        body = "" if binding.verb in ("GET", "DELETE") else "{}"
        answer = await shop.rest(binding.verb, path + slash, content=body, headers=shop.signed_in)
        assert answer.status_code == httpx.codes.OK, answer.text
        media = "text/event-stream" if rpc.streams else "application/json"
        assert answer.headers["content-type"] == media
        call = shop.backends[rpc.service].last
        assert call.path == rpc.path
        assert {name: getattr(call.request, name) for name in fields} == fields

    @pytest.mark.parametrize("slash", ["", "/"], ids=["bare", "slash"])
    async def test_a_query_survives_both_slash_forms(self, shop: Shop, slash: str) -> None:
        await shop.rest(
            "GET", f"/api/products{slash}?page_size=3&q=red+shoes%20%C3%A9%26&in_stock=true"
        )
        request = shop.catalog.last.request
        assert (request.page_size, request.q, request.in_stock) == (3, "red shoes é&", True)

    async def test_slashes_and_dots_are_resolved_first(self, shop: Shop) -> None:
        await shop.rest("GET", "/api//auth/../products/./7")
        assert shop.catalog.last.request.id == "7"

    async def test_an_escaped_slash_is_refused(self, shop: Shop) -> None:
        answer = await shop.rest("GET", "/api/products/a%2fb")
        assert_refused(answer, 400, 3, "MALFORMED_REQUEST")

    async def test_http2_without_upgrade_works_too(self, shop: Shop) -> None:
        status, body, trailers = await h2_request(shop.edge.listen, "GET", "/api/products/7/")
        assert status == httpx.codes.OK
        assert not trailers  # grpc-status would be one
        assert body.startswith(b'{"id":')
        assert shop.catalog.last.request.id == "7"

    @pytest.mark.parametrize(
        "path", ["/", "/api", "/api/nothing", "/api/users/7/nothing", "/favicon.ico", "/api/carts"]
    )
    async def test_unknown_paths_are_not_found(self, shop: Shop, path: str) -> None:
        assert_refused(await shop.rest("GET", path), 404, 5, "ROUTE_NOT_FOUND")

    @pytest.mark.parametrize(
        ("verb", "path", "allow"),
        [
            ("PATCH", "/api/users/?page_size=1", "GET, POST"),
            ("OPTIONS", "/api/payment/?page_size=1", "GET, POST"),
            ("POST", "/api/users/7", "DELETE, GET, PATCH, PUT"),
            ("GET", "/api/auth/login/", "POST"),
            ("TRACE", "/api/products", "GET, POST"),
            ("OPTIONS", "/.well-known/jwks.json", "GET"),
        ],
    )
    async def test_a_wrong_verb_is_told_the_right_ones(
        self, shop: Shop, verb: str, path: str, allow: str
    ) -> None:
        answer = await shop.rest(verb, path)
        assert_refused(answer, 405, 5, "ROUTE_NOT_FOUND")
        assert answer.headers["allow"] == allow

    @pytest.mark.parametrize("query", ["id=8", "etag=x&id=8", "%69d=8", "id", "id=7"])
    async def test_a_query_cannot_overrule_the_path(self, shop: Shop, query: str) -> None:
        answer = await shop.rest("DELETE", f"/api/users/7?{query}", headers=shop.signed_in)
        assert_refused(answer, 400, 3, "MALFORMED_REQUEST")
        assert shop.users.calls == []

    @pytest.mark.parametrize("spelling", ["user_id", "userId", "user%5fid"])
    async def test_nor_can_another_spelling(self, shop: Shop, spelling: str) -> None:
        for path in ("/api/users/7/addresses", "/api/%75sers/7/addresses/"):
            answer = await shop.rest("GET", f"{path}?{spelling}=8", headers=shop.signed_in)
            assert answer.status_code in (400, 404)
        assert shop.users.calls == []

    async def test_nor_can_the_body(self, shop: Shop) -> None:
        answer = await shop.rest(
            "POST", "/api/users/7/addresses", json={"user_id": "8"}, headers=shop.signed_in
        )
        assert_refused(answer, 400, 3, "MALFORMED_REQUEST")
        assert shop.users.calls == []

    @pytest.mark.parametrize("body", [{"userId": "8"}, {"userId": "8", "user_id": "7"}])
    async def test_nor_can_the_body_in_another_spelling(
        self, shop: Shop, body: dict[str, str]
    ) -> None:
        await shop.rest("POST", "/api/users/7/addresses", json=body, headers=shop.signed_in)
        assert shop.users.last.request.user_id == "7"

    async def test_unknown_query_parameters_are_refused(self, shop: Shop) -> None:
        body = assert_refused(
            await shop.rest("GET", "/api/products?colour=red"), 400, 3, "MALFORMED_REQUEST"
        )
        assert '"colour"' in body["message"]


class TestGrpc:
    @pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.name)
    async def test_every_method_is_reached_natively(self, shop: Shop, rpc: Rpc) -> None:
        await shop.grpc(rpc.path, headers=shop.signed_in)
        assert shop.backends[rpc.service].last.path == rpc.path

    async def test_messages_pass_unchanged(self, shop: Shop) -> None:
        async def answer(request: users_pb2.GetUserRequest, _: object) -> users_pb2.User:
            return users_pb2.User(id=request.id, full_name="É" * 1000)

        shop.users.answers["GetUser"] = answer
        request = users_pb2.GetUserRequest(id="7").SerializeToString()
        raw = await shop.grpc("/shop.users.v1.UserService/GetUser", request, shop.signed_in)
        assert users_pb2.User.FromString(raw) == users_pb2.User(id="7", full_name="É" * 1000)


def _not_public() -> list[str]:
    public = {rpc.path for rpc in public_rpcs(DESCRIPTORS.read_bytes(), SERVICES)}
    contract = load(DESCRIPTORS.read_bytes())
    ours = [f"/{method.service}/{method.proto.name}" for method in contract.methods]
    foreign = [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.channelz.v1.Channelz/GetTopChannels",
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
    ]
    variations = [
        "/shop.users.v1.UserService/GetUser/",
        "/shop.users.v1.UserService/getuser",
        "/shop.users.v1.UserService/NoSuchMethod",
        "//shop.users.v1.SessionService/GetSession",
        "/shop.users.v1.UserService/../SessionService/GetSession",
        "/shop.users.v1.UserService/../../shop.users.v1.SessionService/GetSession",
        "/shop.users.v1.SessionService/GetSession?x=/shop.users.v1.UserService/GetUser",
        "/shop.users.v1.SessionService;/GetSession",
        "/shop.users.v1.%53essionService/GetSession",
        "/api/users",
        "/api/users/7",
        "/",
    ]
    return [path for path in (*ours, *foreign, *variations) if path not in public]


class TestWhatIsNotPublic:
    """Promise A11."""

    @pytest.mark.parametrize("path", _not_public())
    async def test_cannot_be_reached_by_grpc(self, shop: Shop, path: str) -> None:
        with grpc_refused(grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_IMPLEMENTED"):
            await shop.grpc(path, headers=shop.signed_in, seconds=3)
        assert shop.users.calls == shop.catalog.calls == []

    @pytest.mark.parametrize("path", _not_public())
    async def test_cannot_be_reached_by_rest(self, shop: Shop, path: str) -> None:
        if path.startswith("/api/"):
            return
        for verb in ("GET", "POST"):
            for media in ("application/json", "application/proto"):
                answer = await shop.rest(verb, path, headers={"content-type": media})
                assert_refused(answer, 404, 5, "ROUTE_NOT_FOUND")
        assert shop.users.calls == shop.catalog.calls == []

    @pytest.mark.parametrize("path", _not_public())
    async def test_cannot_be_reached_by_grpc_web(self, shop: Shop, path: str) -> None:
        for media in ("application/grpc-web+proto", "application/grpc-web-text"):
            answer = await shop.rest(
                "POST", path, headers={**shop.signed_in, "content-type": media}
            )
            assert answer.headers["grpc-status"] == "12"
            assert answer.headers["content-type"].startswith("application/grpc-web")
        assert shop.users.calls == shop.catalog.calls == []

    async def test_nor_by_another_host_name(self, shop: Shop) -> None:
        for host in ("users", "catalog", "edge", "localhost:9901"):
            answer = await shop.rest(
                "POST",
                "/shop.catalog.v1.StockService/ReserveStock",
                headers={"host": host, "content-type": "application/grpc"},
            )
            assert answer.headers["grpc-status"] == "12"
        assert shop.catalog.calls == []

    async def test_public_methods_take_no_json_at_their_grpc_path(self, shop: Shop) -> None:
        answer = await shop.rest("POST", "/shop.catalog.v1.CatalogService/ListProducts", json={})
        assert_refused(answer, 404, 5, "ROUTE_NOT_FOUND")
