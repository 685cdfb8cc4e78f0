"""Who may call what (promises A1, A11, A12): as the access option of each method says.

What is answered on the way is what the OpenAPI document says of each method.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest

from services.kit.auth import SERVICE_AUDIENCE, SERVICE_HEADER, ServiceCredential
from shop.options.v1 import access_pb2
from tests.documented import undocumented
from tests.e2e.asks import CONTRACT, INTERNAL, LET_IN, PUBLIC, REQUESTS, ask_grpc, ask_rest
from tests.refusals import refused
from tests.running import refused as grpc_refused
from tests.shop import Process
from tests.visitors import Person, Shop, Visitor, answered
from tools.contract import Method

# Everybody who is let in does this with what is their own: not even staff fills somebody's cart.
OWN = {
    "shop.cart.v1.CartService.UpdateItem",
    "shop.cart.v1.CartService.RemoveItem",
    "shop.payment.v1.PaymentService.ProcessPayment",
}
OF_A_USER = [m for m in PUBLIC if re.match(r"/api/users/\{", next(m.bindings())[1])]
CALLERS = ("nobody", "service", "stranger", "owner", "staff", "admin")
# After these there is no owner any more, or no session of the caller's.
USED_UP = {"shop.users.v1.UserService.DeleteUser", "shop.users.v1.AuthService.Logout"}


def expected(method: Method, who: str) -> str:
    """The reason why somebody is not let in; empty for those who are."""
    reason = by_access(method, who)
    own = method.name in OWN and who != "owner"
    return "RESOURCE_NOT_FOUND" if own and not reason else reason


def by_access(method: Method, who: str) -> str:
    """The same, as far as the method's access option tells."""
    if method.access == access_pb2.ACCESS_PUBLIC:
        return ""
    if who in ("nobody", "service"):  # what a service shows does not count at the edge
        return "TOKEN_MISSING"
    match method.access:
        case access_pb2.ACCESS_CUSTOMER:
            return ""
        case access_pb2.ACCESS_OWNER:
            return "RESOURCE_NOT_FOUND" if who == "stranger" else ""
        case access_pb2.ACCESS_STAFF:
            return "ROLE_REQUIRED" if who in ("stranger", "owner") else ""
        case access_pb2.ACCESS_ADMIN:
            return "" if who == "admin" else "ROLE_REQUIRED"
    raise AssertionError(f"{method.name} is public, with an access that no client can have")


def test_every_public_method_is_asked() -> None:
    assert {method.name for method in PUBLIC} - REQUESTS.keys() == set()
    assert REQUESTS.keys() - {method.name for method in CONTRACT.methods} == set()


class TestMatrix:
    @pytest.mark.parametrize("method", PUBLIC, ids=lambda method: method.proto.name)
    async def test_rest(self, shop: Shop, method: Method) -> None:
        stranger, owner = await a_stranger(shop, method), await shop.sign_up()
        fields = await REQUESTS[method.name](shop, owner)
        used = False
        for number, binding in enumerate(method.bindings()):
            for who in CALLERS:
                reason = expected(method, who) or LET_IN.get(method.name)
                if used and not expected(method, who):
                    if method.name in USED_UP:
                        stranger, owner = await shop.sign_up(), await shop.sign_up()
                    fields = await REQUESTS[method.name](shop, owner)
                answer = await ask_rest(
                    await caller(shop, method, who, stranger, owner),
                    binding,
                    fields,
                    slash="/" if number == 0 and "." not in binding[1] else "",
                    headers={SERVICE_HEADER: credential(shop)} if who == "service" else None,
                )
                used = used or not expected(method, who)  # who is refused leaves all as it is
                if not method.proto.server_streaming:
                    assert list(undocumented(answer)) == []
                if reason:
                    refused(answer, reason)
                else:
                    assert answer.status_code in (200, 201), (binding, who, answer.text)

    @pytest.mark.parametrize("method", PUBLIC, ids=lambda method: method.proto.name)
    async def test_grpc(self, shop: Shop, method: Method) -> None:
        stranger, owner = await a_stranger(shop, method), await shop.sign_up()
        fields = await REQUESTS[method.name](shop, owner)
        used = False
        for who in CALLERS:
            reason = expected(method, who)
            if used and not reason:
                if method.name in USED_UP:
                    stranger, owner = await shop.sign_up(), await shop.sign_up()
                fields = await REQUESTS[method.name](shop, owner)
            calling = await caller(shop, method, who, stranger, owner)
            metadata = {"authorization": f"Bearer {calling.token}"} if calling.token else {}
            if who == "service":
                metadata[SERVICE_HEADER] = credential(shop)
            asked = await ask_grpc(shop.channel, method, fields, metadata)
            assert asked == (reason or LET_IN.get(method.name, "")), who
            used = used or not reason

    @pytest.mark.parametrize("method", PUBLIC, ids=lambda method: method.proto.name)
    async def test_at_the_service_itself(self, shop: Shop, method: Method) -> None:
        """Nothing hangs on the edge: whoever reaches a service meets the same rules."""
        stranger, owner = await a_stranger(shop, method), await shop.sign_up()
        fields = await REQUESTS[method.name](shop, owner)
        used = False
        async with grpc.aio.insecure_channel(address_of(shop, method)) as channel:
            for who in CALLERS:
                reason = expected(method, who)
                if used and not reason:
                    if method.name in USED_UP:
                        stranger, owner = await shop.sign_up(), await shop.sign_up()
                    fields = await REQUESTS[method.name](shop, owner)
                calling = await caller(shop, method, who, stranger, owner)
                metadata = {"authorization": f"Bearer {calling.token}"} if calling.token else {}
                if who == "service":
                    metadata[SERVICE_HEADER] = credential(shop)
                asked = await ask_grpc(channel, method, fields, metadata)
                assert asked == (reason or LET_IN.get(method.name, "")), who
                used = used or not reason  # who is refused leaves everything as it is


class TestMe:
    """`me` is whoever calls, wherever a path has a user's id."""

    @pytest.mark.parametrize("method", OF_A_USER, ids=lambda method: method.proto.name)
    async def test_is_the_caller_and_nobody_else(self, shop: Shop, method: Method) -> None:
        binding = next(method.bindings())
        variable = "user_id" if "{user_id}" in binding[1] else "id"
        part = variable == "user_id" and "{id}" in binding[1]
        for who in ("nobody", "stranger", "staff", "owner"):
            owner = await shop.sign_up()
            made = await REQUESTS[method.name](shop, owner)
            calling: Visitor = {
                "nobody": shop.nobody,
                "stranger": await shop.sign_up(),
                "staff": await shop.sign_up("STAFF"),
                "owner": owner,
            }[who]
            answer = await ask_rest(calling, binding, made | {variable: "me"}, slash="/")
            reason = "" if method.access == access_pb2.ACCESS_OWNER else by_access(method, who)
            if who == "nobody":
                reason = "TOKEN_MISSING"
            elif part and who != "owner":  # what is asked for is not one of theirs
                reason = reason or "RESOURCE_NOT_FOUND"
            reason = reason or LET_IN.get(method.name, "")
            if reason:
                refused(answer, reason)
            else:
                assert answer.status_code in (200, 201), (who, answer.text)
                told = answer.json()
                if isinstance(calling, Person) and method.response.endswith(".User"):
                    assert told["id"] == calling.id


class TestGuests:
    """A guest's cart belongs to whoever shows its token."""

    @pytest.mark.parametrize("name", ["UpdateItem", "RemoveItem"])
    async def test_their_items_are_theirs_alone(self, shop: Shop, name: str) -> None:
        method = next(each for each in PUBLIC if each.proto.name == name)
        product, other = await shop.new_product(), await shop.new_product()
        add = {"product_id": product["id"], "quantity": 1}
        guests = answered(await shop.nobody.post("/api/cart/items/", add))
        add = {"product_id": other["id"], "quantity": 1}
        others = answered(await shop.nobody.post("/api/cart/items/", add))
        ada = await shop.sign_up()
        fields: dict[str, Any] = {"id": guests["items"][0]["id"]}
        fields |= {"quantity": 2} if name == "UpdateItem" else {}
        mine, theirs = guests["cart_token"], others["cart_token"]
        signed = {"authorization": f"Bearer {ada.token}"}
        callers: list[tuple[str, dict[str, str]]] = [
            ("RESOURCE_NOT_FOUND", {}),
            ("RESOURCE_NOT_FOUND", {"x-cart-token": theirs}),
            ("RESOURCE_NOT_FOUND", {"x-cart-token": mine[::-1]}),
            ("RESOURCE_NOT_FOUND", signed),
            ("RESOURCE_NOT_FOUND", signed | {"x-cart-token": mine}),
            ("", {"x-cart-token": mine}),
        ]
        async with grpc.aio.insecure_channel(address_of(shop, method)) as channel:
            for reason, metadata in callers[:-1]:
                for place in (shop.channel, channel):
                    assert await ask_grpc(place, method, fields, metadata) == reason
                binding = next(method.bindings())
                refused(await ask_rest(shop.nobody, binding, fields, headers=metadata), reason)
            assert await ask_grpc(channel, method, fields, callers[-1][1]) == ""

    async def test_nobody_sees_what_is_in_anothers(self, shop: Shop) -> None:
        product, ada = await shop.new_product(), await shop.sign_up()
        add = {"product_id": product["id"], "quantity": 1}
        token = answered(await shop.nobody.post("/api/cart/items/", add))["cart_token"]
        for visitor, shown, seen in (
            (shop.nobody, {"x-cart-token": token}, True),
            (shop.nobody, {}, False),
            (ada, {"x-cart-token": token}, False),
            (shop.admin, {"x-cart-token": token}, False),
        ):
            cart = answered(await visitor.call("GET", "/api/cart/", headers=shown))
            assert (product["id"] in {item["product_id"] for item in cart["items"]}) == seen
        wrong = {"x-cart-token": token[::-1]}
        answer = await shop.nobody.call("GET", "/api/cart/", headers=wrong)
        refused(answer, "RESOURCE_NOT_FOUND")


def address_of(shop: Shop, method: Method) -> str:
    """Where the service of a method listens."""
    return shop.ready.services[method.service.split(".")[1]]


async def a_stranger(shop: Shop, method: Method) -> Person:
    """A customer whose business it is not: the same one, unless the method may be the end of it."""
    if method.name in USED_UP:
        return await shop.sign_up()
    if "STRANGER" not in shop.people:
        shop.people["STRANGER"] = await shop.sign_up()
    return shop.people["STRANGER"]


async def caller(shop: Shop, method: Method, who: str, stranger: Person, owner: Person) -> Visitor:
    """One of those who call."""
    match who:
        case "stranger":
            return stranger
        case "owner":
            return owner
        case "staff" | "admin":
            person = shop.people[who.upper()]
            return await person.again() if method.name in USED_UP else person
    return shop.nobody


def credential(shop: Shop, service: str = "order") -> str:
    """What a service of this shop shows the others."""
    return ServiceCredential(service, secret(shop)).token()


def secret(shop: Shop) -> str:
    """The secret that the services of this shop share."""
    return (shop.up.data / "secrets" / "service").read_text().strip()


class TestInternalMethods:
    """Promises A11 and A12."""

    @pytest.mark.parametrize("method", INTERNAL, ids=lambda method: method.name)
    async def test_are_not_there_at_the_edge(self, shop: Shop, method: Method) -> None:
        headers = {
            SERVICE_HEADER: credential(shop),
            "authorization": f"Bearer {shop.admin.token}",
        }
        assert await ask_grpc(shop.channel, method, {}, headers) == "METHOD_NOT_IMPLEMENTED"
        path = f"/{method.service}/{method.proto.name}"
        answer = await shop.admin.call("POST", path, {}, headers=headers)
        refused(answer, "ROUTE_NOT_FOUND")

    @pytest.mark.parametrize(
        "path",
        [
            "/grpc.health.v1.Health/Check",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            "/grpc.channelz.v1.Channelz/GetTopChannels",
        ],
    )
    async def test_nor_is_what_servers_tell_operators(self, shop: Shop, path: str) -> None:
        method: Any = shop.channel.unary_unary(path)
        with grpc_refused(grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_IMPLEMENTED"):
            await method(b"")

    @pytest.mark.parametrize("method", INTERNAL, ids=lambda method: method.name)
    async def test_are_for_services_alone(self, shop: Shop, method: Method) -> None:
        now = int(time.time())
        claims = {"iss": "order", "aud": SERVICE_AUDIENCE, "iat": now, "exp": now + 60}
        own = secret(shop)
        ada = await shop.sign_up()
        forged = {
            "no credential": {},
            "a customer's token": {"authorization": f"Bearer {ada.token}"},
            "a staff token": {"authorization": f"Bearer {shop.staff.token}"},
            "an administrator's token": {"authorization": f"Bearer {shop.admin.token}"},
            "that token as credential": {SERVICE_HEADER: shop.admin.token},
            "another secret": {SERVICE_HEADER: jwt.encode(claims, own[::-1], "HS256")},
            "no signature": {SERVICE_HEADER: jwt.encode(claims, "", "none")},
            "another algorithm": {SERVICE_HEADER: jwt.encode(claims, own, "HS512")},
            "expired": {SERVICE_HEADER: jwt.encode(claims | {"exp": now - 1}, own, "HS256")},
            "for users": {SERVICE_HEADER: jwt.encode(claims | {"aud": "shop"}, own, "HS256")},
            "garbage": {SERVICE_HEADER: "x.y.z"},
        }
        async with grpc.aio.insecure_channel(address_of(shop, method)) as channel:
            for what, metadata in forged.items():
                reason = await ask_grpc(channel, method, {}, metadata)
                assert reason == "SERVICE_CREDENTIAL_INVALID", what
            reason = await ask_grpc(channel, method, {}, {SERVICE_HEADER: credential(shop)})
            assert reason in ("", "VALIDATION_FAILED")  # an empty request gets so far

    async def test_all_ports_are_on_loopback(self, shop: Shop) -> None:
        found = {where for each in shop.up.processes() for where in listening(each)}
        told = {shop.ready.edge, *shop.ready.services.values()}
        assert {int(place.rpartition(":")[2]) for place in told} <= {port for _, port in found}
        assert [where for where in found if not where[0].is_loopback] == []


Host = ipaddress.IPv4Address | ipaddress.IPv6Address


def listening(process: Process) -> Iterator[tuple[Host, int]]:
    """Where a process listens; see proc_pid_net(5)."""
    own = set()
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            own.add(str(entry.readlink()))
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in own:
                host, port = local.split(":")
                # Words of 32 bits, each in this machine's order.
                words = struct.unpack(f"={len(host) // 8}I", bytes.fromhex(host))
                address = ipaddress.ip_address(struct.pack(f"!{len(words)}I", *words))
                yield getattr(address, "ipv4_mapped", None) or address, int(port, 16)


class TestTheEdgesOwnPages:
    async def test_no_page_of_envoys_is_there(self, shop: Shop) -> None:
        for path in ("/config_dump", "/stats", "/ready", "/quitquitquit", "/server_info"):
            for verb in ("GET", "POST"):
                answer: httpx.Response = await shop.nobody.call(verb, path)
                refused(answer, "ROUTE_NOT_FOUND")
