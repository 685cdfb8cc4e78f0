"""Carts of guests, and a whole purchase."""

from __future__ import annotations

import asyncio

from tests.e2e.orders import POSTAL, pay, until
from tests.refusals import refused
from tests.shop import SHOP, command
from tests.visitors import PASSWORD, Person, Shop, answered, euros, new_address


class TestGuestsCarts:
    async def test_are_their_tokens_alone(self, shop: Shop, slash: str) -> None:
        item = {"product_id": (await shop.new_product())["id"], "quantity": 1}
        carts = [
            answered(await shop.nobody.post(f"/api/cart/items{slash}", item)) for _ in range(2)
        ]
        mine, other = carts
        assert mine["cart_token"] != other["cart_token"]
        headers = {"x-cart-token": mine["cart_token"]}
        seen = answered(await shop.nobody.call("GET", f"/api/cart{slash}", headers=headers))
        assert (seen["id"], seen["cart_token"]) == (mine["id"], "")
        assert answered(await shop.nobody.get(f"/api/cart{slash}"))["items"] == []
        ada = await shop.sign_up()
        own = answered(await ada.call("GET", f"/api/cart{slash}", headers=headers))
        assert own["items"] == []
        path = f"/api/cart/items/{other['items'][0]['id']}{slash}"
        for verb, body in (("PUT", {"quantity": 9}), ("DELETE", None)):
            answer = await shop.nobody.call(verb, path, body, headers=headers)
            refused(answer, "RESOURCE_NOT_FOUND")
        wrong = {"x-cart-token": mine["cart_token"][::-1]}
        answer = await shop.nobody.call("GET", f"/api/cart{slash}", headers=wrong)
        refused(answer, "RESOURCE_NOT_FOUND")


async def test_a_purchase_from_a_guests_cart_to_the_door(shop: Shop) -> None:
    product = await shop.new_product(name="A brass lamp")
    item = {"product_id": product["id"], "quantity": 2}
    token = answered(await shop.nobody.post("/api/cart/items/", item))["cart_token"]

    email = new_address()
    new = {"email": email, "password": PASSWORD, "full_name": "Ada"}
    answered(await shop.nobody.post("/api/users/", new), 201)
    ada = await Person.signed_in(shop.http, email, PASSWORD)
    merged = answered(await ada.post("/api/cart/merge/", {"cart_token": token}))
    assert (merged["user_id"], merged["item_count"], merged["problems"]) == (ada.id, 2, [])

    # While she looks at her cart, the price rises.
    path = f"/api/products/{product['id']}/"
    answered(await shop.staff.put(path, {"price": euros(25)}))
    body = {"shipping_address": POSTAL, "expected_total": euros(40)}
    told = refused(await ada.post("/api/orders/", body), "TOTAL_CHANGED").metadata
    assert (told["currency_code"], told["units"], told["nanos"]) == ("EUR", "50", "0")
    (problem,) = answered(await ada.get("/api/cart/"))["problems"]
    assert problem["kind"] == "PRICE_CHANGED"
    assert answered(await ada.get("/api/orders/user/me/"))["orders"] == []

    body["expected_total"] = euros(50)
    order = answered(await ada.post("/api/orders/", body), 201)
    assert (order["cart_id"], order["total"]["units"]) == (merged["id"], "50")
    assert answered(await ada.post("/api/orders/", body), 201)["id"] == order["id"]

    payment = await pay(ada, order)
    paid = await until(ada, order, "PAID")
    assert (payment["status"], paid["payment_id"]) == ("SUCCEEDED", payment["id"])
    (mail,) = await shop.mails(email, order["number"])
    assert "2 x A brass lamp" in mail.get_content()
    async with asyncio.timeout(60):
        while answered(await ada.get("/api/cart/"))["items"]:
            await asyncio.sleep(0.05)
    for status in ("FULFILLING", "SHIPPED", "DELIVERED"):
        moved = {"status": status, "note": f"Now {status.lower()}"}
        answered(await shop.staff.put(f"/api/orders/{order['id']}/", moved))
    events = answered(await ada.get(f"/api/orders/{order['id']}/events/"))["events"]
    statuses = [event["to_status"] for event in events]
    assert statuses[-5:] == ["AWAITING_PAYMENT", "PAID", "FULFILLING", "SHIPPED", "DELIVERED"]
    assert [event["actor"] for event in events[-4:]] == ["SYSTEM", "STAFF", "STAFF", "STAFF"]
    left = answered(await shop.staff.get(path))["variants"][0]
    assert (left["on_hand"], left["reserved"]) == (3, 0)

    await shop.rows()  # once all that had to follow has been done
    looked = await command(SHOP, "verify", "--data", shop.up.data)
    assert looked.returncode == 0, looked.stdout + looked.stderr
