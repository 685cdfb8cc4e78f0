"""What goes through the edge in headers, in both directions (promise A10), and what does not."""

from __future__ import annotations

from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from shop.catalog.v1 import catalog_pb2
from shop.users.v1 import users_pb2
from tests.edge import grpc_web
from tests.edge.conftest import Shop
from tests.edge.h2 import h2_request

GET_USER = "/shop.users.v1.UserService/GetUser"
BROWSERS = {
    "accept": "application/json",
    "accept-encoding": "gzip, br, zstd",
    "accept-language": "de",
    "cache-control": "no-cache",
    "cookie": "who=me",
    "dnt": "1",
    "origin": "http://localhost:5173",
    "pragma": "no-cache",
    "priority": "u=1, i",
    "referer": "http://localhost:5173/cart",
    "sec-ch-ua-mobile": "?0",
    "sec-fetch-mode": "cors",
    "upgrade-insecure-requests": "1",
    "user-agent": "a browser",
    "x-requested-with": "XMLHttpRequest",
}
# What a service gets of a call by REST, whoever makes it.
READ = {
    "authorization",
    "content-length",
    "content-type",
    "grpc-accept-encoding",
    "te",
    "x-envoy-original-method",
    "x-envoy-original-path",
    "x-request-id",
    "x-shop-came-as",
}
SPOOFED = {
    "x-shop-service-token": "forged",
    "x-shop-anything": "forged",
    "x-shop-came-as": "forged",
    "x-user-id": "forged",
    "x-user-role": "ADMIN",
    "x-http-code": "500",
    "x-envoy-original-path": "/forged",
    "x-envoy-original-method": "forged",
    "x-envoy-upstream-rq-timeout-ms": "1",
    "x-envoy-retry-on": "5xx",
    "x-envoy-external-address": "203.0.113.9",
    "x-forwarded-for": "203.0.113.9",
    "x-forwarded-host": "forged",
    "x-forwarded-proto": "https",
    "x-forwarded-client-cert": "forged",
    "x-real-ip": "203.0.113.9",
    "x-client-ip": "203.0.113.9",
    "forwarded": "for=203.0.113.9",
    "x-request-id": "forged",
}


async def _created(request: users_pb2.CreateUserRequest, context: Any) -> users_pb2.User:
    metadata = (("x-http-code", "201"), ("location", "/api/users/7"), ("x-shop-note", "internal"))
    await context.send_initial_metadata(metadata)
    return users_pb2.User(id="7", email=request.email)


async def _created_with_trailers(request: users_pb2.CreateUserRequest, context: Any) -> Any:
    context.set_trailing_metadata((("x-http-code", "201"), ("location", "/api/users/7")))
    return users_pb2.User(id="7", email=request.email)


class TestRequests:
    async def test_identity_is_not_taken_from_rest_clients(self, shop: Shop) -> None:
        odd = {"a-bin": "!not base64!", "grpc-trace-bin": "%%%", "x_user_id": "forged"}
        headers = {**shop.signed_in, **SPOOFED, **odd}
        answer = await shop.rest("GET", "/api/users/7", headers=headers)
        assert answer.status_code == httpx.codes.OK
        self._check(shop)
        assert shop.users.last.metadata["x-envoy-original-path"] == "/api/users/7"

    async def test_nor_from_grpc_clients(self, shop: Shop) -> None:
        await shop.grpc(GET_USER, headers={**shop.signed_in, **SPOOFED})
        self._check(shop)
        assert "x-envoy-original-path" not in shop.users.last.metadata

    @staticmethod
    def _check(shop: Shop) -> None:
        metadata = shop.users.last.metadata
        names = {name for name in metadata if name.startswith(("x-shop-", "x-user-"))}
        assert names <= {"x-shop-came-as"}  # the edge's own note
        assert [name for name in metadata if name.endswith("-bin") or "_" in name] == []
        assert [name for name, value in metadata.items() if value in SPOOFED.values()] == []

    async def test_nor_by_http2(self, shop: Shop) -> None:
        more = {name.replace("-", "_"): value for name, value in SPOOFED.items()}
        status, _, _ = await h2_request(
            shop.edge.listen, "GET", "/api/users/7", **more, **shop.signed_in
        )
        assert status == httpx.codes.OK
        self._check(shop)

    @pytest.mark.parametrize("kind", [grpc_web.BINARY, grpc_web.TEXT])
    async def test_nor_by_grpc_web(self, shop: Shop, kind: str) -> None:
        headers = {name.replace("-", "_"): value for name, value in SPOOFED.items()}
        token = shop.signed_in["authorization"]
        done = await grpc_web.call(
            shop, GET_USER, b"", content_type=kind, authorization=token, **headers
        )
        assert done.status == "0"
        self._check(shop)
        assert "x-envoy-original-path" not in shop.users.last.metadata

    async def test_binary_metadata_is_dropped(self, shop: Shop) -> None:
        method: Any = shop.channel.unary_unary(GET_USER)
        await method(b"", metadata=(*shop.signed_in.items(), ("a-bin", b"\xff")))
        assert "a-bin" not in shop.users.last.metadata

    @pytest.mark.parametrize("mark", "!#$%&'*+^`|~")
    async def test_names_that_http_has_and_grpc_has_not_are_dropped(
        self, shop: Shop, mark: str
    ) -> None:
        """A service refuses the whole call for one, as INTERNAL."""
        for name in (mark, f"a{mark}b", f"{mark}b", f"a{mark}", "x.y-z"):
            headers = {**shop.signed_in, name: "v"}
            answer = await shop.rest("GET", "/api/users/7", headers=headers)
            assert answer.status_code == httpx.codes.OK, answer.text
            assert (name in shop.users.last.metadata) == (name == "x.y-z")

    async def test_what_the_api_knows_goes_through(self, shop: Shop) -> None:
        headers = {
            **shop.signed_in,
            "idempotency-key": "key-1",
            "x-cart-token": "t",
            "if-match": "a",
        }
        await shop.rest("GET", "/api/users/7", headers=headers)
        metadata = shop.users.last.metadata
        assert {name: metadata[name] for name in headers} == headers

    async def test_what_no_service_reads_stays_at_the_edge(self, shop: Shop) -> None:
        """Each header costs a service 6 µs, and who somebody is and whence is not its business."""
        headers = {**shop.signed_in, **BROWSERS}
        answer = await shop.rest("GET", "/api/users/7", headers=headers)
        assert answer.status_code == httpx.codes.OK
        assert shop.users.last.metadata.keys() <= READ
        await shop.grpc(GET_USER, headers=headers)
        assert shop.users.last.metadata.keys() <= READ

    async def test_the_request_id_is_the_edges_own(self, shop: Shop) -> None:
        ids = set()
        for _ in range(3):
            headers = {**shop.signed_in, "x-request-id": "forged"}
            answer = await shop.rest("GET", "/api/users/7", headers=headers)
            assert answer.headers["x-request-id"] == shop.users.last.metadata["x-request-id"]
            ids.add(answer.headers["x-request-id"])
        assert len(ids - {"forged"}) == 3

    async def test_refusals_have_one_too(self, shop: Shop) -> None:
        assert (await shop.rest("GET", "/api/users/7")).headers["x-request-id"]
        assert (await shop.rest("GET", "/nothing")).headers["x-request-id"]


class TestDeadlines:
    async def test_rest_calls_get_one(self, shop: Shop) -> None:
        await shop.rest("GET", "/api/products/7")
        seconds = shop.catalog.last.seconds
        assert seconds is not None
        assert 3 < seconds <= 4

    @pytest.mark.parametrize("asked", ["100H", "99999999S", "nonsense", "-1S"])
    async def test_rest_clients_cannot_have_more(self, shop: Shop, asked: str) -> None:
        await shop.rest("GET", "/api/products/7", headers={"grpc-timeout": asked})
        seconds = shop.catalog.last.seconds
        assert seconds is not None
        assert seconds <= 5

    @pytest.mark.parametrize(("asked", "most"), [(None, 4), (2, 2), (600, 5)])
    async def test_grpc_clients_choose_up_to_five_seconds(
        self, shop: Shop, asked: float | None, most: float
    ) -> None:
        await shop.grpc(GET_USER, headers=shop.signed_in, seconds=asked)
        seconds = shop.users.last.seconds
        assert seconds is not None
        assert most - 1 < seconds <= most + 0.05


class TestAnswers:
    @pytest.mark.parametrize("created", [_created, _created_with_trailers])
    async def test_created_is_201_with_a_location(self, shop: Shop, created: Any) -> None:
        shop.users.answers["CreateUser"] = created
        for path in ("/api/users", "/api/users/"):
            answer = await shop.rest("POST", path, json={"email": "a"})
            assert answer.status_code == httpx.codes.CREATED
            assert answer.headers["location"] == "/api/users/7"
            assert answer.json()["email"] == "a"
            assert "x-http-code" not in answer.headers
            assert "x-shop-note" not in answer.headers

    @pytest.mark.parametrize("path", ["/api/products/7", "/api/products/7/"])
    async def test_what_stands_in_the_trailers_of_a_read_are_headers(
        self, shop: Shop, path: str
    ) -> None:
        told = {"etag": 'W/"v1-7"', "vary": "authorization", "cache-control": "public, max-age=5"}

        async def tagged(_: Any, context: Any) -> catalog_pb2.Product:
            context.set_trailing_metadata(tuple(told.items()))
            return catalog_pb2.Product(id="7")

        shop.catalog.answers["GetProduct"] = tagged
        answer = await shop.rest("GET", path)
        assert answer.json()["id"] == "7"
        for name, value in told.items():
            assert answer.headers[name].startswith(value)

    async def test_whoever_has_it_gets_304(self, shop: Shop) -> None:
        async def unchanged(_: Any, context: Any) -> catalog_pb2.Product:
            context.set_trailing_metadata((("etag", 'W/"v1-7"'), ("x-http-code", "304")))
            return catalog_pb2.Product()

        shop.catalog.answers["GetProduct"] = unchanged
        answer = await shop.rest("GET", "/api/products/7/", headers={"if-none-match": 'W/"v1-7"'})
        assert (answer.status_code, answer.content) == (httpx.codes.NOT_MODIFIED, b"")
        assert answer.headers["etag"] == 'W/"v1-7"'
        assert "content-type" not in answer.headers

    async def test_a_long_answer_is_none_the_worse(self, shop: Shop) -> None:
        async def created(request: users_pb2.CreateUserRequest, context: Any) -> users_pb2.User:
            context.set_trailing_metadata((("x-http-code", "201"),))
            return users_pb2.User(id="7", full_name="x" * 200_000)

        shop.users.answers["CreateUser"] = created
        answer = await shop.rest("POST", "/api/users/", json={"email": "a"})
        assert answer.status_code == httpx.codes.OK
        assert len(answer.json()["full_name"]) == 200_000

    async def test_natively_it_is_just_ok(self, shop: Shop) -> None:
        shop.users.answers["CreateUser"] = _created
        method: Any = shop.channel.unary_unary("/shop.users.v1.UserService/CreateUser")
        call = method(b"")
        await call
        metadata = dict(await call.initial_metadata())
        assert metadata["location"] == "/api/users/7"
        assert "x-http-code" not in metadata
        assert "x-shop-note" not in metadata

    async def test_rest_answers_show_nothing_of_grpc(self, shop: Shop) -> None:
        answer = await shop.rest("GET", "/api/users/7", headers=shop.signed_in)
        assert set(answer.headers) == {
            "access-control-allow-origin",
            "cache-control",
            "content-length",
            "content-security-policy",
            "content-type",
            "date",
            "referrer-policy",
            "x-content-type-options",
            "x-request-id",
        }
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"

    async def test_a_handler_may_allow_caching(self, shop: Shop) -> None:
        async def cacheable(_: Any, context: Any) -> None:
            await context.send_initial_metadata((("cache-control", "max-age=60"),))

        shop.catalog.answers["GetProduct"] = cacheable
        answer = await shop.rest("GET", "/api/products/7")
        assert answer.headers["cache-control"] == "max-age=60"

    async def test_defaults_are_printed_and_names_stay(self, shop: Shop) -> None:
        answer = await shop.rest("GET", "/api/users/7", headers=shop.signed_in)
        assert answer.json()["full_name"] == ""
        assert answer.json()["email_verified"] is False

    async def test_nothing_is_an_empty_object(self, shop: Shop) -> None:
        answer = await shop.rest("DELETE", "/api/users/7", headers=shop.signed_in)
        assert (answer.status_code, answer.json()) == (httpx.codes.OK, {})


class TestErrors:
    """A service's own errors are passed on as they are."""

    @staticmethod
    def _refuse(shop: Shop) -> None:
        info = error_details_pb2.ErrorInfo(
            reason="ETAG_MISMATCH", domain="shop", metadata={"etag": "5"}
        )
        field = error_details_pb2.BadRequest.FieldViolation(field="etag", description="It is old.")
        status = status_pb2.Status(code=10, message="Read it again: “Größe”.")
        for detail in (info, error_details_pb2.BadRequest(field_violations=[field])):
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)

        async def refuse(_: Any, context: Any) -> None:
            await context.abort_with_status(rpc_status.to_status(status))

        shop.users.answers["UpdateUser"] = refuse

    async def test_rest_clients_see_the_details(self, shop: Shop) -> None:
        self._refuse(shop)
        answer = await shop.rest("PUT", "/api/users/7", json={}, headers=shop.signed_in)
        assert answer.status_code == httpx.codes.CONFLICT
        assert answer.headers["content-type"] == "application/json"
        kind = "type.googleapis.com/google.rpc."
        assert answer.json() == {
            "code": 10,
            "message": "Read it again: “Größe”.",
            "details": [
                {
                    "@type": f"{kind}ErrorInfo",
                    "reason": "ETAG_MISMATCH",
                    "domain": "shop",
                    "metadata": {"etag": "5"},
                },
                {
                    "@type": f"{kind}BadRequest",
                    "field_violations": [
                        {
                            "field": "etag",
                            "description": "It is old.",
                            "reason": "",
                        }
                    ],
                },
            ],
        }

    async def test_grpc_clients_get_them_unchanged(self, shop: Shop) -> None:
        self._refuse(shop)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await shop.grpc("/shop.users.v1.UserService/UpdateUser", headers=shop.signed_in)
        assert caught.value.code() == grpc.StatusCode.ABORTED
        assert caught.value.details() == "Read it again: “Größe”."
        trailers = dict(caught.value.trailing_metadata() or ())
        assert len(status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details) == 2

    @pytest.mark.parametrize(
        ("code", "status"),
        [
            (grpc.StatusCode.INVALID_ARGUMENT, 400),
            (grpc.StatusCode.FAILED_PRECONDITION, 400),
            (grpc.StatusCode.UNAUTHENTICATED, 401),
            (grpc.StatusCode.PERMISSION_DENIED, 403),
            (grpc.StatusCode.NOT_FOUND, 404),
            (grpc.StatusCode.ALREADY_EXISTS, 409),
            (grpc.StatusCode.ABORTED, 409),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
            (grpc.StatusCode.INTERNAL, 500),
            (grpc.StatusCode.UNIMPLEMENTED, 501),
            (grpc.StatusCode.UNAVAILABLE, 503),
            (grpc.StatusCode.DEADLINE_EXCEEDED, 504),
        ],
    )
    async def test_codes_become_statuses(
        self, shop: Shop, code: grpc.StatusCode, status: int
    ) -> None:
        async def refuse(_: Any, context: Any) -> None:
            await context.abort(code, "no")

        shop.users.answers["UpdateUser"] = refuse
        answer = await shop.rest("PUT", "/api/users/7", json={}, headers=shop.signed_in)
        assert (answer.status_code, answer.json()["code"]) == (status, code.value[0])
        assert answer.json()["message"] == "no"
