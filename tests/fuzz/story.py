"""A story: some people and one sequence of random calls by them, each on what earlier ones made.

A story depends on its seed and number alone. It has its own people, and remembers nothing that
others in the same shop made, so the same one can be told again by itself.
"""

from __future__ import annotations

import asyncio
import importlib
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

from services.kit.auth import SERVICE_HEADER, ServiceCredential
from shop.options.v1 import access_pb2
from shop.payment.v1.payment_pb2 import HandleStripeWebhookRequest
from shop.users.v1.users_pb2 import User
from tests.fuzz import asking, events
from tests.fuzz.answers import BUSY, Answer, complaint
from tests.fuzz.memory import Memory
from tests.fuzz.requests import Requests
from tests.visitors import Person, Shop, answered, euros
from tools.contract import DESCRIPTORS, ROOT, Method, load
from tools.openapi import reasons

CALLS = 150
# Who calls. Each story has a customer, another one, and so on, of its own.
CUSTOMERS = ("customer", "stranger")
PEOPLE = (*CUSTOMERS, "staff", "admin")
CALLERS = (*CUSTOMERS, *CUSTOMERS, "staff", "admin", "nobody", "service")
# How often the caller is one whom the method admits.
ADMITTED = 0.8
SIGNED = 0.8
# What most of the rest needs.
OFTEN = {"AddItem", "CreateOrder", "ProcessPayment"}
# Each answer costs the hash of a password.
SLOW = {"Login", "ConfirmPasswordReset", "CreateUser", "ChangePassword"}
# Who is asked about in these is hardly to be asked for anything else: they come last.
LAST = {"Logout", "DeleteUser", "SetUserDisabled", "SetUserRole", "ChangePassword", "EraseUser"}
LAST_PART = 0.9
# Who shows a password or a refresh token is told who they are.
BEARER = {"Login", "RefreshToken"}
# What is answered before it is clear what is called.
ANYWHERE = {"ROUTE_NOT_FOUND", "METHOD_NOT_IMPLEMENTED", "SERVICE_CREDENTIAL_INVALID"}
CONTRACT = load(DESCRIPTORS.read_bytes())
METHODS = CONTRACT.methods
for _package in {method.service.rpartition(".")[0] for method in METHODS}:
    for _file in sorted((ROOT / "generated" / _package.replace(".", "/")).glob("*_pb2.py")):
        importlib.import_module(f"{_package}.{_file.stem}")  # its methods are found by name then
POSTAL = {"region_code": "GB", "address_lines": ["1 Byron Row"]}


@dataclass(frozen=True)
class Doors:
    """Ways into a running shop: the edge, and each service's own port."""

    shop: Shop
    services: Mapping[str, grpc.aio.Channel]
    secret: str
    webhook_secret: str

    def direct(self, method: MethodDescriptor) -> grpc.aio.Channel:
        """The channel to the service that has the method."""
        return self.services[method.full_name.split(".")[1]]


@dataclass
class Told:
    """What stories came to."""

    calls: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    """How often each method did what it was asked for."""
    problems: list[str] = field(default_factory=list)


class Story:
    """One of them."""

    def __init__(self, doors: Doors, seed: int, number: int) -> None:
        self._doors = doors
        self._weights = [4 if method.proto.name in OFTEN else 1 for method in METHODS]
        self._name = f"story {number}"
        self._seed = f"{seed} {number}"
        self._luck = random.Random(self._seed)
        self._memory = Memory()
        self._requests = Requests(self._luck, self._memory)
        self._people: dict[str, Person] = {}
        self._marks = {who: f"mark{self._luck.getrandbits(40):010x}" for who in CUSTOMERS}
        self._trusted: set[str] = set()

    async def tell(self, told: Told, calls: int = CALLS) -> None:
        """Make all calls; what is wrong with their answers goes to `told`."""
        await self._begin()
        for number in range(calls):
            # An answer that is another one this time does not make all that follows another story.
            self._luck.seed(f"{self._seed} {number}")
            late = number > calls * LAST_PART
            wrong = await self._call(told, late)
            if wrong:
                told.problems.append(f"{self._name}, call {number}: {wrong}")
            told.calls += 1

    async def _begin(self) -> None:
        """Sign people up, and give them what random calls would take long to come by."""
        roles = {"staff": "STAFF", "admin": "ADMIN"}
        shop = self._doors.shop
        for who in PEOPLE:
            person = await shop.sign_up(roles.get(who, "CUSTOMER"))
            self._people[who] = person
            self._memory.emails.append(person.email)
            self._memory.add("User", who, id=person.id)
            self._memory.tokens[who, "refresh_token"].append(person.refresh_token)
        staff = self._people["staff"]
        for _ in range(2):
            body = {"name": "A brass lamp", "price": euros(20), "stock": 500}
            made = answered(await staff.post("/api/products/", body), 201)
            self._memory.add(
                "Product", "staff", id=made["id"], slug=made["slug"], etag=made["etag"]
            )
            self._memory.add(
                "Variant", "staff", id=made["default_variant_id"], product_id=made["id"]
            )
        for who in CUSTOMERS:
            body = {
                "items": [{"product_id": made["id"], "quantity": 1}],
                "shipping_address": POSTAL | {"recipients": [self._marks[who]]},
            }
            order = answered(await self._people[who].post("/api/orders/", body), 201)
            self._memory.add("Order", who, id=order["id"], etag=order["etag"])

    async def _call(self, told: Told, late: bool) -> str:
        method = self._choose(late)
        who = self._caller(method)
        described: MethodDescriptor = descriptor_pool.Default().FindMethodByName(method.name)
        raw = self._requests.make(described, who, self._marks.get(who, ""))
        metadata = self._requests.metadata() | self._credentials(who)
        if method.proto.name == "HandleStripeWebhook" and self._luck.random() < SIGNED:
            body = events.event(self._luck, self._memory.id_for(self._luck, "payment_id", who))
            raw = HandleStripeWebhookRequest(
                body=HttpBody(content_type="application/json", data=body)
            ).SerializeToString()
            metadata |= events.signed(body, self._doors.webhook_secret)
        way, ask = self._way(method, described, raw, metadata)
        for wait in (0.5, 1.0, 2.0, 0.0):
            answer = await ask()
            if answer.code not in BUSY or not wait:
                break
            await asyncio.sleep(wait)  # a busy machine is no fault of a request
        told.codes[answer.code.name] += 1
        if answer.reason:
            told.reasons[answer.reason] += 1
        if answer.code == grpc.StatusCode.OK:
            told.answered[method.name] += 1
            if answer.message is not None:
                self._learn(described, who, answer)
        wrong = complaint(answer) or self._betrays(method, who, answer, way)
        if not wrong:
            return ""
        request = asking.show(described, raw)
        return (
            f"{wrong}\n  {who}, {way}, {metadata}\n  {request}\n  {answer.code.name} {answer.text}"
        )

    def _choose(self, late: bool) -> Method:
        while True:
            (method,) = self._luck.choices(METHODS, self._weights)
            name = method.proto.name
            if (late or name not in LAST) and (name not in SLOW or self._luck.random() < 0.2):
                return method

    def _caller(self, method: Method) -> str:
        """Who calls: sooner somebody who may."""
        may = [who for who in CALLERS if self._may(method, who, "direct")]
        return self._luck.choice(may if self._luck.random() < ADMITTED else CALLERS)

    def _credentials(self, who: str) -> dict[str, str]:
        if who in self._people:
            return {"authorization": f"Bearer {self._people[who].token}"}
        if who == "service":
            return {SERVICE_HEADER: ServiceCredential("order", self._doors.secret).token()}
        return {}

    def _way(
        self, method: Method, described: MethodDescriptor, raw: bytes, metadata: dict[str, str]
    ) -> tuple[str, Any]:
        """How a call is made: internal methods sooner directly, where they are."""
        bindings = list(method.bindings())
        way = self._luck.choice(
            ("edge", "direct", "rest") if bindings else ("direct",) * 9 + ("edge",)
        )
        shop = self._doors.shop
        if way == "rest":
            fields = asking.as_json(described, raw)
            for name in fields:
                if self._luck.random() < 0.03:
                    fields[name] = self._luck.choice(events.ODD)
            binding = self._luck.choice(bindings)
            return way, lambda: asking.as_rest(shop.http, described, binding, fields, metadata)
        channel = shop.channel if way == "edge" else self._doors.direct(described)
        return way, lambda: asking.natively(channel, described, raw, metadata)

    def _learn(self, method: MethodDescriptor, who: str, answer: Answer) -> None:
        assert answer.message is not None
        self._memory.keep(method, who, answer.message)
        if isinstance(answer.message, User) and method.name == "SetUserRole":
            self._trusted.add(answer.message.id)

    def _stated(self, method: Method) -> set[str]:
        """The reasons that a call of the method may answer, as its comment and its access say."""
        return {*reasons.of(CONTRACT, method), *ANYWHERE}

    def _betrays(self, method: Method, who: str, answer: Answer, way: str) -> str:
        """What an answer told or did that this caller has no right to."""
        done = answer.code == grpc.StatusCode.OK
        public = any(method.bindings())
        if answer.reason and public and answer.reason not in self._stated(method):
            return f"{method.proto.name} does not say that it answers {answer.reason}"
        if done and not self._may(method, who, way):
            return f"{access_pb2.Access.Name(method.access)} and done for {who}"
        if who not in (*CUSTOMERS, "nobody") or method.proto.name in BEARER:
            return ""
        if who in self._people and self._people[who].id in self._trusted:
            return ""
        for other in CUSTOMERS:
            if other == who:
                continue
            if self._marks[other] in answer.said:
                return f"it shows what {other} wrote"
            if done and self._people[other].id in answer.said:
                return f"it shows the id of {other}"
        return ""

    def _may(self, method: Method, who: str, way: str) -> bool:
        if who in self._people and self._people[who].id in self._trusted:
            return True
        match method.access:
            case access_pb2.ACCESS_PUBLIC:
                return True
            case access_pb2.ACCESS_CUSTOMER | access_pb2.ACCESS_OWNER:
                return who in PEOPLE
            case access_pb2.ACCESS_STAFF:
                return who in ("staff", "admin")
            case access_pb2.ACCESS_ADMIN:
                return who == "admin"
            case access_pb2.ACCESS_SERVICE:
                return who == "service" and way == "direct"
        return False
