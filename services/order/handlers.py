"""OrderService: one method an RPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

from services.kit import call, errors, masks, pages, times
from services.kit.db import Database, Row
from services.kit.etags import check_etag
from services.kit.statements import Fields
from services.order import follow_ups, list_store, messages, rules, store
from services.order.checkout import Checkout
from services.order.faults import Faults, Point
from services.order.rules import By
from services.order.store import Event
from services.order.watching import Watchers
from shop.order.v1 import order_pb2, order_pb2_grpc

UPDATABLE = ("status", "tracking", "note")
ME = "me"


class OrderService(order_pb2_grpc.OrderServiceServicer):
    """Orders and their history."""

    def __init__(
        self, database: Database, checkout: Checkout, watchers: Watchers, faults: Faults
    ) -> None:
        self._db = database
        self._checkout = checkout
        self._watchers = watchers
        self._faults = faults

    async def CreateOrder(
        self, request: order_pb2.CreateOrderRequest, context: Any
    ) -> order_pb2.Order:
        order = await self._checkout.create(request)
        call.current().location = f"/api/orders/{order['id']}/"
        return messages.order(order)

    async def GetOrder(self, request: order_pb2.GetOrderRequest, context: Any) -> order_pb2.Order:
        return messages.order(await self._visible(request.id))

    async def UpdateOrder(
        self, request: order_pb2.UpdateOrderRequest, context: Any
    ) -> order_pb2.Order:
        changes = masks.changes(request, UPDATABLE)
        rules.check_changes(changes)
        async with self._db.transaction() as tx:
            order = await store.lock(tx, UUID(request.id))
            by = _by(order)
            rules.check_role(changes, by)
            check_etag(request.etag, order)
            columns = _columns(changes, order)
            status = columns.get("status", order["status"])
            if status != order["status"]:
                rules.check_move(order, status, by)
            event = Event(rules.actor(by, owner=True), call.user_id(), _note(changes, columns))
            if not columns:
                order = await store.get(tx, order["id"])
            elif status == rules.CANCELLED and order["status"] != rules.CANCELLED:
                order = await follow_ups.cancel(tx, order, event, columns)
            else:
                order = await store.write(tx, order, columns, event)
            answer = tx.reply(messages.order(order), subject=order["user_id"])
        self._faults.reach(Point.AFTER_UPDATE)
        return answer

    async def CancelOrder(
        self, request: order_pb2.CancelOrderRequest, context: Any
    ) -> order_pb2.Order:
        async with self._db.transaction() as tx:
            order = await store.lock(tx, UUID(request.id))
            by = _by(order)
            if order["status"] == rules.CANCELLED:
                order = await store.get(tx, order["id"])
            else:
                check_etag(request.etag, order)
                rules.check_move(order, rules.CANCELLED, By.CANCEL)
                actor = rules.actor(By.CANCEL, owner=by is By.OWNER)
                event = Event(actor, call.user_id(), request.note)
                order = await follow_ups.cancel(tx, order, event)
            answer = tx.reply(messages.order(order), subject=order["user_id"])
        self._faults.reach(Point.AFTER_UPDATE)
        return answer

    async def ListOrders(
        self, request: order_pb2.ListOrdersRequest, context: Any
    ) -> order_pb2.ListOrdersResponse:
        since, until = list_store.EARLIEST, list_store.LATEST
        if request.HasField("start_time"):
            since = times.ceiling(request.start_time)
        if request.HasField("end_time"):
            until = times.ceiling(request.end_time)
        before = _before(request, until)
        async with self._db.connection() as connection:
            rows = await list_store.page(
                connection,
                before=before,
                most=pages.size(request) + 1,
                status=request.status,
                since=since,
            )
        page, token = pages.cut(request, rows, _key)
        return order_pb2.ListOrdersResponse(
            orders=[messages.order(row) for row in page], next_page_token=token
        )

    async def ListUserOrders(
        self, request: order_pb2.ListUserOrdersRequest, context: Any
    ) -> order_pb2.ListUserOrdersResponse:
        user_id = call.user_id() if request.user_id == ME else UUID(request.user_id)
        if not call.caller().may_see(user_id):
            raise errors.not_found("user", request.user_id)
        before = _before(request, list_store.LATEST)
        async with self._db.connection() as connection:
            rows = await list_store.page(
                connection,
                before=before,
                most=pages.size(request) + 1,
                user_id=user_id,
                status=request.status,
            )
        page, token = pages.cut(request, rows, _key)
        return order_pb2.ListUserOrdersResponse(
            orders=[messages.order(row) for row in page], next_page_token=token
        )

    async def ListOrderEvents(
        self, request: order_pb2.ListOrderEventsRequest, context: Any
    ) -> order_pb2.ListOrderEventsResponse:
        key = pages.start(request, int)
        order = await self._visible(request.id)
        async with self._db.connection() as connection:
            rows = await list_store.events(
                connection, order["id"], key[0] if key else 0, pages.size(request) + 1
            )
        page, token = pages.cut(request, rows, lambda row: (row["sequence"],))
        return order_pb2.ListOrderEventsResponse(
            events=[messages.event(row) for row in page], next_page_token=token
        )

    async def WatchOrder(
        self, request: order_pb2.WatchOrderRequest, context: Any
    ) -> AsyncIterator[order_pb2.WatchOrderResponse]:
        order = await self._visible(request.id)
        async for message in self._watchers.watch(order["id"], request.after_sequence):
            yield message

    async def _visible(self, id: str) -> Row:
        """An order that the caller may see. Raises NOT_FOUND."""
        async with self._db.connection() as connection:
            order = await store.get(connection, UUID(id))
        if not call.caller().may_see(order["user_id"]):
            raise errors.not_found("order", id)
        return order


def _by(order: Fields) -> By:
    """As what the caller changes an order. Raises NOT_FOUND for somebody else's."""
    if call.caller().is_staff:
        return By.STAFF
    if call.user_id() != order["user_id"]:
        raise errors.not_found("order", order["id"])
    return By.OWNER


def _columns(changes: dict[str, Any], order: Fields) -> dict[str, Any]:
    """What would really change."""
    columns = dict(changes)
    if "tracking" in columns:
        columns["tracking"] = messages.tracking_column(columns["tracking"])
    return {name: value for name, value in columns.items() if value != order[name]}


def _note(changes: dict[str, Any], columns: dict[str, Any]) -> str:
    """What stands at the event of a change."""
    if changes.get("note"):
        return str(changes["note"])
    if columns.get("tracking"):
        return "Tracking: " + " ".join(columns["tracking"].values())
    return ""


def _before(request: Any, until: datetime) -> tuple[datetime, UUID]:
    """The key (create_time, id) that a page comes before: the end of the last one, or `until`."""
    key = pages.start(request, int, UUID)
    return (times.at_micros(key[0]), key[1]) if key else (until, UUID(int=0))


def _key(row: Fields) -> tuple[int, UUID]:
    return times.micros(row["create_time"]), row["id"]
