"""Moves of orders that are forbidden, for everybody on every way: made from the state machine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf import json_format

from services.order.rules import MOVES, By
from shop.order.v1.order_pb2 import CancelOrderRequest, Order, UpdateOrderRequest
from shop.order.v1.order_pb2_grpc import OrderServiceStub
from tests.e2e.orders import cancel, ordered, pay, until
from tests.order.pending import leave_pending
from tests.refusals import refused
from tests.running import refusal_of
from tests.visitors import Person, Shop, Visitor, answered, euros


async def _move(shop: Shop, owner: Person, order: dict[str, Any], *statuses: str) -> None:
    await pay(owner, order)
    await until(owner, order, "PAID")
    for status in statuses:
        answered(await shop.staff.put(f"/api/orders/{order['id']}/", {"status": status}))


async def _refund(shop: Shop, owner: Person, order: dict[str, Any], **amount: Any) -> None:
    payment = await pay(owner, order)
    await until(owner, order, "PAID")
    answered(await shop.staff.post(f"/api/payment/{payment['id']}/refund/", amount))


Reach = Callable[[Shop, Person, dict[str, Any]], Awaitable[None]]


def _moved(*statuses: str) -> Reach:
    return lambda shop, owner, order: _move(shop, owner, order, *statuses)


async def _as_it_is(shop: Shop, owner: Person, order: dict[str, Any]) -> None:
    pass


async def _cut_off(shop: Shop, owner: Person, order: dict[str, Any]) -> None:
    await leave_pending(shop.database, json_format.ParseDict(order, Order()))
    # The sweeper would finish it.
    later = "UPDATE \"order\".orders SET create_time = now() + interval '1 hour' WHERE id = $1"
    await shop.database.execute(later, UUID(order["id"]))


# How an order comes to stand there.
REACH: dict[str, Reach] = {
    "PENDING": _cut_off,
    "AWAITING_PAYMENT": _as_it_is,
    "PAID": _moved(),
    "FULFILLING": _moved("FULFILLING"),
    "SHIPPED": _moved("FULFILLING", "SHIPPED"),
    "DELIVERED": _moved("FULFILLING", "SHIPPED", "DELIVERED"),
    "CANCELLED": cancel,
    "REFUNDED": _refund,
    "PARTIALLY_REFUNDED": lambda shop, owner, order: _refund(shop, owner, order, amount=euros(1)),
}


# Who tries, and as what the state machine knows them; "" is nobody, and to strangers there is no
# such order.
ROLES: dict[str, By | None] = {
    "nobody": None,
    "stranger": None,
    "owner": By.OWNER,
    "staff": By.STAFF,
    "admin": By.STAFF,
}


def names(statuses: Iterable[Order.Status.ValueType]) -> str:
    return ",".join(Order.Status.Name(status) for status in statuses)


def expected(role: str, by: By | None, status: Order.Status.ValueType, to: str) -> tuple[str, str]:
    """Why a move is refused, and what is named as allowed; ("", "") for one that is not refused."""
    if role == "nobody":
        return "TOKEN_MISSING", ""
    if role == "stranger":
        return "RESOURCE_NOT_FOUND", ""
    if by is By.OWNER and to != "CANCELLED":
        return "ROLE_REQUIRED", ""
    moves = MOVES[status]
    if by in moves.get(Order.Status.Value(to), ()):
        return "", ""
    return "STATUS_CHANGE_FORBIDDEN", names(end for end, who in moves.items() if by in who)


class Ways:
    """All the ways on which somebody may try to move an order."""

    def __init__(self, shop: Shop, people: dict[str, Visitor], order: dict[str, Any]) -> None:
        self._people = people
        self._path = f"/api/orders/{order['id']}"
        self._id: str = order["id"]
        self._stub: Any = OrderServiceStub(shop.channel)

    def update(self, role: str, to: str) -> list[Awaitable[tuple[str, str]]]:
        """The refusals of UpdateOrder, over PUT, PATCH (both forms of the path) and gRPC."""
        request = UpdateOrderRequest(id=self._id, status=Order.Status.Value(to))
        body = {"status": to}
        return [
            *(
                self._rest(role, verb, f"{self._path}{slash}", body)
                for verb in ("PUT", "PATCH")
                for slash in ("", "/")
            ),
            self._grpc(role, self._stub.UpdateOrder, request),
        ]

    def cancel(self, role: str) -> list[Awaitable[tuple[str, str]]]:
        """The refusals of CancelOrder."""
        return [
            *(self._rest(role, "POST", f"{self._path}/cancel{slash}", {}) for slash in ("", "/")),
            self._grpc(role, self._stub.CancelOrder, CancelOrderRequest(id=self._id)),
        ]

    async def _rest(self, role: str, verb: str, path: str, body: Any) -> tuple[str, str]:
        answer = await self._people[role].call(verb, path, body)
        reason = answer.json()["details"][0]["reason"]
        return reason, refused(answer, reason).metadata.get("allowed", "")

    async def _grpc(self, role: str, method: Any, request: Any) -> tuple[str, str]:
        token = self._people[role].token
        signed = (("authorization", f"Bearer {token}"),) if token else ()
        try:
            await method(request, metadata=signed)
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            return refusal.reason, refusal.metadata.get("allowed", "")
        return "", ""


class TestMovesThatAreForbidden:
    def test_all_statuses_are_tried(self) -> None:
        assert {Order.Status.Name(status) for status in MOVES} == REACH.keys()

    @pytest.mark.parametrize("status", REACH)
    async def test_are_refused_with_what_is_allowed(self, shop: Shop, status: str) -> None:
        ada = await shop.sign_up()
        order = await ordered(shop, ada)
        await REACH[status](shop, ada, order)
        before = await until(ada, order, status)
        people: dict[str, Visitor] = {
            "nobody": shop.nobody,
            "stranger": await shop.sign_up(),
            "owner": ada,
            "staff": shop.staff,
            "admin": shop.admin,
        }
        ways, now = Ways(shop, people, order), Order.Status.Value(status)
        tried: list[tuple[tuple[str, str], list[Awaitable[tuple[str, str]]]]] = []
        for role, by in ROLES.items():
            for to in set(REACH) - {status}:
                why = expected(role, by, now, to)
                if why[0]:
                    tried.append((why, ways.update(role, to)))
            # Cancelling twice is fine.
            why = expected(role, By.CANCEL, now, "CANCELLED")
            if why[0] and (status != "CANCELLED" or by is None):
                tried.append((why, ways.cancel(role)))
        for why, refusals in tried:
            assert set(await asyncio.gather(*refusals)) == {why}
        assert answered(await ada.get(f"/api/orders/{order['id']}/")) == before
