"""Moves of orders that are forbidden, over REST: made from the state machine's own table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.order.rules import MOVES, By
from shop.order.v1.order_pb2 import Order
from tests.e2e.orders import cancel, ordered, pay, until
from tests.refusals import refused
from tests.visitors import Person, Shop, answered, euros


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


# How an order comes to stand there. Nobody but the shop itself ever sees one PENDING.
REACH: dict[str, Reach] = {
    "AWAITING_PAYMENT": _as_it_is,
    "PAID": _moved(),
    "FULFILLING": _moved("FULFILLING"),
    "SHIPPED": _moved("FULFILLING", "SHIPPED"),
    "DELIVERED": _moved("FULFILLING", "SHIPPED", "DELIVERED"),
    "CANCELLED": cancel,
    "REFUNDED": _refund,
    "PARTIALLY_REFUNDED": lambda shop, owner, order: _refund(shop, owner, order, amount=euros(1)),
}


class TestMovesThatAreForbidden:
    def test_all_statuses_are_tried(self) -> None:
        assert {Order.Status.Name(status) for status in MOVES} == REACH.keys() | {"PENDING"}

    @pytest.mark.parametrize("status", REACH)
    async def test_are_refused_with_what_is_allowed(self, shop: Shop, status: str) -> None:
        ada = await shop.sign_up()
        order = await ordered(shop, ada)
        await REACH[status](shop, ada, order)
        before = await until(ada, order, status)
        path = f"/api/orders/{order['id']}/"
        moves = MOVES[Order.Status.Value(status)]
        for to in set(MOVES) - {Order.Status.Value(status)}:
            name = Order.Status.Name(to)
            for who, by in ((shop.staff, By.STAFF), (shop.admin, By.STAFF), (ada, By.OWNER)):
                if by in moves.get(to, ()):
                    continue
                answer = await who.put(path, {"status": name})
                if by is By.OWNER and name != "CANCELLED":
                    refused(answer, "ROLE_REQUIRED")
                    continue
                allowed = [Order.Status.Name(one) for one, those in moves.items() if by in those]
                told = refused(answer, "STATUS_CHANGE_FORBIDDEN").metadata
                assert told == {"from": status, "to": name, "allowed": ",".join(allowed)}
        if status != "CANCELLED" and By.CANCEL not in moves.get(Order.CANCELLED, ()):
            for who in (ada, shop.staff):
                refused(await who.post(f"{path}cancel/", {}), "STATUS_CHANGE_FORBIDDEN")
        assert answered(await ada.get(path)) == before
