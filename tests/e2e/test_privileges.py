"""What callers may not decide: no body, query or header gives it to them (promises A3, A10)."""

from __future__ import annotations

from typing import Any

import pytest
from google.api import field_behavior_pb2

from services.kit.ids import uuid7
from tests.e2e.asks import CONTRACT
from tests.e2e.orders import a_request
from tests.refusals import refused
from tests.visitors import PASSWORD, Shop, answered, euros, new_address
from tools.contract import Field

SPOOFED = {
    "x-user-id": "00000000-0000-7000-8000-000000000001",
    "x-user-role": "ADMIN",
    "x-user-email": "admin@example.com",
    "x-shop-role": "ADMIN",
    "x-shop-service-token": "forged",
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded-user": "admin",
    "x-real-ip": "127.0.0.1",
    "x-envoy-original-path": "/api/users/me/role",
    "x-envoy-internal": "true",
    "x-http-code": "500",
    "x-jwt-payload": "e30",
}


def forged(message: str) -> dict[str, Any]:
    """A value of one's own for each field that the shop sets."""
    values: dict[int, Any] = {
        Field.TYPE_STRING: str(uuid7()),
        Field.TYPE_BOOL: True,
        Field.TYPE_INT32: 999,
        Field.TYPE_ENUM: 3,
        Field.TYPE_MESSAGE: "1999-01-01T00:00:00Z",
    }
    return {
        field.name: values[field.type]
        for field in CONTRACT.messages[message].field
        if field_behavior_pb2.OUTPUT_ONLY
        in field.options.Extensions[field_behavior_pb2.field_behavior]
    }


async def test_a_new_user_is_a_customer_whatever_they_send(shop: Shop) -> None:
    body = {"email": new_address(), "password": PASSWORD}
    extra = forged("shop.users.v1.User")
    assert extra.keys() >= {"id", "role", "email_verified", "disabled", "create_time", "etag"}
    user = answered(await shop.nobody.post("/api/users/", extra | body), 201)
    assert (user["role"], user["email_verified"], user["disabled"]) == ("CUSTOMER", False, False)
    assert [name for name, value in extra.items() if user[name] == value] == []


async def test_nor_does_a_change_of_theirs_change_that(shop: Shop) -> None:
    ada = await shop.sign_up()
    before = answered(await ada.get("/api/users/me/"))
    extra = forged("shop.users.v1.User") | {"etag": "", "password": "another password"}
    del extra["id"]
    after = answered(await ada.put("/api/users/me/", extra | {"phone": "12345"}))
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"phone", "update_time", "etag"}
    for field in ("role", "email_verified", "id", "password", "disabled"):
        answer = await ada.put("/api/users/me/", {"update_mask": field, field: "x"})
        assert answer.status_code == 400, field
    await ada.again()  # by the password she has


@pytest.mark.parametrize("query", ["role=ADMIN", "email_verified=true", "user.role=ADMIN"])
async def test_nor_does_the_query(shop: Shop, query: str) -> None:
    body = {"email": new_address(), "password": PASSWORD}
    refused(await shop.nobody.post(f"/api/users/?{query}", body), "MALFORMED_REQUEST")
    ada = await shop.sign_up()
    refused(await ada.put(f"/api/users/me/?{query}", {"phone": "12345"}), "MALFORMED_REQUEST")


async def test_whose_thing_it_is_stands_in_the_path_alone(shop: Shop) -> None:
    ada, eve = await shop.sign_up(), await shop.sign_up()
    for body in ({"id": ada.id}, {"id": ada.id, "phone": "666"}):
        refused(await eve.put("/api/users/me/", body), "MALFORMED_REQUEST")
        refused(await eve.put(f"/api/users/me/?id={ada.id}", {"phone": "666"}), "MALFORMED_REQUEST")
    postal = {"postal_address": {"region_code": "GB", "address_lines": ["1 Byron Row"]}}
    path = "/api/users/me/addresses/"
    refused(await eve.post(path, postal | {"user_id": ada.id}), "MALFORMED_REQUEST")
    refused(await eve.post(f"{path}?user_id={ada.id}", postal), "MALFORMED_REQUEST")
    refused(await eve.post(f"{path}?userId={ada.id}", postal), "MALFORMED_REQUEST")
    other = await eve.post(path, postal | {"userId": ada.id})
    assert other.status_code == 400 or other.json()["user_id"] == eve.id
    assert answered(await ada.get(path))["addresses"] == []


async def test_a_product_is_what_staff_may_make_of_it(shop: Shop) -> None:
    extra = forged("shop.catalog.v1.Product") | {"on_hand": 999, "reserved": 999}
    new = {"name": "A lamp", "price": euros(20), "stock": 2}
    product = answered(await shop.staff.post("/api/products/", extra | new), 201)
    assert product["available"] == 2
    assert [name for name in extra.keys() & product.keys() if product[name] == extra[name]] == []

    # Stock is changed by AdjustStock alone.
    path = f"/api/products/{product['id']}/"
    extra |= {"etag": "", "stock": 999, "variants": [{"price": euros(1), "stock": 999}]}
    del extra["id"]
    after = answered(await shop.staff.put(path, extra | {"name": "Another lamp"}))
    changed = {name for name in after if after[name] != product[name]}
    assert changed == {"name", "update_time", "etag"}
    path += f"variants/{product['default_variant_id']}/"
    more = {"on_hand": 999, "reserved": 1, "available": 999, "stock": 999, "weight_grams": 7}
    variant = answered(await shop.staff.put(path, more))
    assert (variant["on_hand"], variant["reserved"], variant["weight_grams"]) == (2, 0, 7)


async def test_headers_say_nothing_about_the_caller(shop: Shop) -> None:
    ada = await shop.sign_up()
    refused(await shop.nobody.call("GET", "/api/users/me/", headers=SPOOFED), "TOKEN_MISSING")
    user = answered(await ada.call("GET", "/api/users/me/", headers=SPOOFED))
    assert (user["id"], user["role"]) == (ada.id, "CUSTOMER")
    refused(await ada.call("GET", "/api/users/", headers=SPOOFED), "ROLE_REQUIRED")
    new = {"name": "A lamp", "price": euros(20)}
    refused(await ada.call("POST", "/api/products/", new, headers=SPOOFED), "ROLE_REQUIRED")


async def test_an_order_costs_what_the_catalogue_says(shop: Shop) -> None:
    ada, eve = await shop.sign_up(), await shop.sign_up()
    new = await a_request(shop, quantity=2)
    new["items"][0] |= {"unit_price": euros(1), "line_total": euros(1)}
    extra = forged("shop.order.v1.Order") | {"status": "PAID", "user_id": eve.id}
    assert extra.keys() >= {"total", "discount_total", "payment_id", "email", "expire_time"}
    order = answered(await ada.post("/api/orders/", extra | new), 201)
    assert [name for name, value in extra.items() if order.get(name) == value] == []
    assert (order["status"], order["user_id"], order["email"]) == (
        "AWAITING_PAYMENT",
        ada.id,
        ada.email,
    )
    assert (order["subtotal"]["units"], order["discount_total"]["units"]) == ("40", "0")
    for query in ("user_id", "status", "total.units"):
        refused(await ada.post(f"/api/orders/?{query}=1", new), "MALFORMED_REQUEST")


async def test_nor_is_it_sent_to_somebody_elses_address(shop: Shop) -> None:
    ada, eve = await shop.sign_up(), await shop.sign_up()
    postal = {"postal_address": {"region_code": "GB", "address_lines": ["1 Byron Row"]}}
    address = answered(await ada.post("/api/users/me/addresses/", postal), 201)
    new = await a_request(shop) | {"address_id": address["id"]}
    del new["shipping_address"]
    refused(await eve.post("/api/orders/", new), "RESOURCE_NOT_FOUND")
    order = answered(await ada.post("/api/orders/", new), 201)
    assert order["shipping_address"]["address_lines"] == ["1 Byron Row"]


async def test_what_is_in_a_cart_costs_what_the_catalogue_says(shop: Shop) -> None:
    ada, eve = await shop.sign_up(), await shop.sign_up()
    product = await shop.new_product()
    forgeries = forged("shop.cart.v1.Cart") | {"etag": "", "unit_price": euros(1)}
    forgeries["user_id"] = eve.id
    item = {"product_id": product["id"], "quantity": 1}
    cart = answered(await ada.post("/api/cart/items/", forgeries | item))
    assert (cart["user_id"], cart["subtotal"]["units"], cart["cart_token"]) == (ada.id, "20", "")
    assert cart["id"] != forgeries["id"]
    assert answered(await eve.get("/api/cart/"))["items"] == []
