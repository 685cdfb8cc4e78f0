"""The documented paths of orders, in both slash forms and over gRPC."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from services.kit.ids import uuid7
from shop.order.v1 import order_pb2, order_pb2_grpc
from shop.order.v1.order_pb2 import Order
from tests.e2e.orders import POSTAL, a_request, cancel, ordered
from tests.e2e.streams import Stream, first_event, streaming
from tests.refusals import refused
from tests.running import refused as grpc_refused
from tests.visitors import Shop, answered

MISSING = "01a20989-0fd8-7737-b45f-51b8f45f0757"


class TestPostOrders:
    async def test_answers_201_with_the_order(self, shop: Shop, slash: str) -> None:
        ada = await shop.sign_up()
        request = await a_request(shop, quantity=2, note="Ring twice", shipping_phone="020 1234")
        answer = await ada.post(f"/api/orders{slash}", request)
        order = answered(answer, 201)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["location"] == f"/api/orders/{order['id']}/"
        assert answered(await ada.get(answer.headers["location"])) == order
        assert (order["user_id"], order["email"]) == (ada.id, ada.email)
        assert (order["status"], order["payment_id"], order["cart_id"]) == (
            "AWAITING_PAYMENT",
            "",
            "",
        )
        assert (order["note"], order["shipping_phone"]) == ("Ring twice", "020 1234")
        assert order["shipping_address"].items() >= POSTAL.items()
        (line,) = order["lines"]
        assert (line["variant_id"], line["quantity"]) == (request["items"][0]["variant_id"], 2)
        assert (line["unit_price"]["units"], line["line_total"]["units"]) == ("20", "40")
        assert order["subtotal"]["units"] == "40"

    async def test_holds_the_stock(self, shop: Shop, slash: str) -> None:
        ada = await shop.sign_up()
        request = await a_request(shop, quantity=4)
        answered(await ada.post(f"/api/orders{slash}", request), 201)
        refused(await ada.post(f"/api/orders{slash}", request), "OUT_OF_STOCK")

    @pytest.mark.parametrize("quantity", [0, -1, 1000, 2**31, 1.5])
    async def test_quantities_are_whole_and_1_to_999(
        self, shop: Shop, slash: str, quantity: float
    ) -> None:
        ada = await shop.sign_up()
        product = (await shop.new_product(stock=5000))["id"]
        item = {"product_id": product, "quantity": quantity}
        ordering = {"items": [item], "shipping_address": POSTAL}
        for path, body in (("orders", ordering), ("cart/items", item)):
            answer = await ada.post(f"/api/{path}{slash}", body)
            assert answer.status_code == 400, answer.text
            told = answer.json()["details"]
            if quantity in (0, -1, 1000):  # the others are no int32: the edge says so
                (violation,) = told[1]["field_violations"]
                assert violation["field"].endswith("quantity")
        assert answered(await ada.get(f"/api/orders/user/me{slash}"))["orders"] == []
        assert answered(await ada.get(f"/api/cart{slash}"))["items"] == []

    async def test_an_empty_cart_is_refused(self, shop: Shop, slash: str) -> None:
        ada = await shop.sign_up()
        body = {"shipping_address": POSTAL}
        refused(await ada.post(f"/api/orders{slash}", body), "CART_EMPTY")

    async def test_twenty_at_once_with_one_key_make_one(self, shop: Shop, slash: str) -> None:
        ada, key, request = await shop.sign_up(), str(uuid7()), await a_request(shop)
        answers = await asyncio.gather(
            *(ada.post(f"/api/orders{slash}", request, idempotency_key=key) for _ in range(20))
        )
        made = [answered(answer, 201) for answer in answers if answer.status_code == 201]
        for answer in answers:
            if answer.status_code != 201:
                assert answer.status_code == 409, answer.text
        assert len({order["id"] for order in made}) == 1
        again = await ada.post(f"/api/orders{slash}", request, idempotency_key=key)
        assert answered(again, 201) == made[0]
        listed = answered(await ada.get("/api/orders/user/me/"))["orders"]
        assert [order["id"] for order in listed] == [made[0]["id"]]


class TestGetOrdersId:
    async def test_answers_owner_and_staff_alone(self, shop: Shop, slash: str) -> None:
        ada, eve = await shop.sign_up(), await shop.sign_up()
        order = await ordered(shop, ada)
        path = f"/api/orders/{order['id']}{slash}"
        assert answered(await ada.get(path)) == answered(await shop.staff.get(path)) == order
        refusal = refused(await eve.get(path), "RESOURCE_NOT_FOUND")
        assert refusal.metadata == {"resource": "order", "id": order["id"]}
        missing = refused(await eve.get(f"/api/orders/{MISSING}{slash}"), "RESOURCE_NOT_FOUND")
        assert missing.message == refusal.message.replace(order["id"], MISSING)
        refused(await shop.nobody.get(path), "TOKEN_MISSING")


class TestGetOrdersUserId:
    async def test_pages_of_ones_own_newest_first(self, shop: Shop, slash: str) -> None:
        ada = await shop.sign_up()
        made = [await ordered(shop, ada) for _ in range(3)]
        for user, who in (("me", ada), (ada.id, ada), (ada.id, shop.staff)):
            path = f"/api/orders/user/{user}{slash}"
            first = answered(await who.get(path, page_size=2))
            rest = answered(await who.get(path, page_size=2, page_token=first["next_page_token"]))
            assert first["orders"] + rest["orders"] == made[::-1]
            assert rest["next_page_token"] == ""
        answered(await ada.post(f"/api/orders/{made[1]['id']}/cancel/", {}))
        found = answered(await ada.get(f"/api/orders/user/me{slash}", status="CANCELLED"))
        assert [order["id"] for order in found["orders"]] == [made[1]["id"]]

    async def test_strangers_see_404(self, shop: Shop, slash: str) -> None:
        ada, eve = await shop.sign_up(), await shop.sign_up()
        await ordered(shop, ada)
        refused(await eve.get(f"/api/orders/user/{ada.id}{slash}"), "RESOURCE_NOT_FOUND")
        assert answered(await eve.get(f"/api/orders/user/me{slash}"))["orders"] == []


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
class TestPutOrdersId:
    async def test_its_owner_may_cancel_and_nothing_else(
        self, shop: Shop, slash: str, verb: str
    ) -> None:
        ada, eve = await shop.sign_up(), await shop.sign_up()
        order = await ordered(shop, ada)
        path = f"/api/orders/{order['id']}{slash}"
        for body in ({"status": "PAID"}, {"note": "Mine"}, {"status": "CANCELLED", "note": "x"}):
            refused(await ada.call(verb, path, body), "ROLE_REQUIRED")
        refused(await eve.call(verb, path, {"status": "CANCELLED"}), "RESOURCE_NOT_FOUND")
        stale = {"status": "CANCELLED", "etag": "v99"}
        assert refused(await ada.call(verb, path, stale), "ETAG_MISMATCH").metadata == {
            "etag": order["etag"]
        }
        after = answered(await ada.call(verb, path, {"status": "CANCELLED"}))
        assert after["status"] == "CANCELLED"
        assert answered(await ada.get(path)) == after

    async def test_staff_leaves_notes(self, shop: Shop, slash: str, verb: str) -> None:
        order = await ordered(shop, await shop.sign_up())
        path = f"/api/orders/{order['id']}{slash}"
        body = {"note": "Fragile", "tracking": {"carrier": "Post", "number": "7"}}
        after = answered(await shop.staff.call(verb, path, body))
        changed = {name for name in after if after[name] != order.get(name)}
        assert changed == {"note", "tracking", "update_time", "etag"}
        cleared = await shop.staff.call(verb, path, {}, query={"update_mask": "note,tracking"})
        assert answered(cleared)["note"] == ""


class TestGetOrdersIdWatch:
    async def test_events_come_as_they_happen_and_end(self, shop: Shop, slash: str) -> None:
        ada = await shop.sign_up()
        order = await ordered(shop, ada)
        async with (
            asyncio.timeout(10),
            streaming(ada, f"/api/orders/{order['id']}/watch{slash}") as answer,
        ):
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/event-stream"
            seen = []
            async for message in Stream(answer):
                seen.append(message)
                if message.get("event", {}).get("to_status") == "AWAITING_PAYMENT":
                    await cancel(shop, ada, order)
        *events, end = seen
        assert end == {"end": {"cause": "ORDER_FINAL"}}
        history = answered(await ada.get(f"/api/orders/{order['id']}/events{slash}"))["events"]
        assert [message["event"] for message in events] == history
        assert [event["to_status"] for event in history][-2:] == ["AWAITING_PAYMENT", "CANCELLED"]
        assert [event["sequence"] for event in history] == list(range(1, len(history) + 1))

    async def test_goes_on_after_a_sequence(self, shop: Shop, slash: str) -> None:
        ada = await shop.sign_up()
        order = await ordered(shop, ada)
        await cancel(shop, ada, order)
        history = answered(await ada.get(f"/api/orders/{order['id']}/events/"))["events"]
        path, last = f"/api/orders/{order['id']}/watch{slash}", history[-1]["sequence"]
        first = await first_event(ada, path, {"after_sequence": last - 1})
        assert first.json() == {"event": history[-1]}
        first = await first_event(ada, path, {"after_sequence": last})
        assert first.json() == {"end": {"cause": "ORDER_FINAL"}}

    async def test_strangers_see_404(self, shop: Shop, slash: str) -> None:
        order = await ordered(shop, await shop.sign_up())
        eve = await shop.sign_up()
        refused(
            await first_event(eve, f"/api/orders/{order['id']}/watch{slash}"), "RESOURCE_NOT_FOUND"
        )


async def test_over_grpc(shop: Shop) -> None:
    ada, eve = await shop.sign_up(), await shop.sign_up()
    stub = order_pb2_grpc.OrderServiceStub(shop.channel)
    variant = (await shop.new_product())["default_variant_id"]
    request = order_pb2.CreateOrderRequest(
        items=[order_pb2.CreateOrderRequest.Item(variant_id=variant, quantity=1)]
    )
    request.shipping_address.region_code = "GB"
    request.shipping_address.address_lines.append("1 Byron Row")
    signed, other, staff = (
        (("authorization", f"Bearer {who.token}"),) for who in (ada, eve, shop.staff)
    )
    calling = stub.CreateOrder(request, metadata=signed)
    order = await calling
    assert dict(await calling.initial_metadata())["location"] == f"/api/orders/{order.id}/"
    wanted = order_pb2.GetOrderRequest(id=order.id)
    assert await stub.GetOrder(wanted, metadata=signed) == order
    with grpc_refused(grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
        await stub.GetOrder(wanted, metadata=other)
    mine = order_pb2.ListUserOrdersRequest(user_id="me")
    assert list((await stub.ListUserOrders(mine, metadata=signed)).orders) == [order]
    forward = order_pb2.UpdateOrderRequest(id=order.id, status=Order.SHIPPED)
    with grpc_refused(grpc.StatusCode.FAILED_PRECONDITION, "STATUS_CHANGE_FORBIDDEN") as refusal:
        await stub.UpdateOrder(forward, metadata=staff)
    assert refusal[0].metadata["allowed"] == "CANCELLED"
    stop = order_pb2.UpdateOrderRequest(id=order.id, status=Order.CANCELLED, etag=order.etag)
    assert (await stub.UpdateOrder(stop, metadata=signed)).status == Order.CANCELLED
    watch = order_pb2.WatchOrderRequest(id=order.id)
    seen = [message async for message in stub.WatchOrder(watch, metadata=signed)]
    assert seen[-1].end.cause == order_pb2.WatchOrderResponse.End.ORDER_FINAL
    assert [message.event.sequence for message in seen[:-1]] == list(range(1, len(seen)))
