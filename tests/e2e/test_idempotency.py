"""A call that is repeated with its key happens once, and is answered as it was the first time."""

from __future__ import annotations

import asyncio

import httpx

from services.kit.ids import uuid7
from tests.refusals import refused
from tests.visitors import PASSWORD, Shop, answered, euros, new_address


def same(first: httpx.Response, second: httpx.Response) -> bool:
    """Whether two answers are one."""
    return (first.status_code, first.content, first.headers.get("location")) == (
        second.status_code,
        second.content,
        second.headers.get("location"),
    )


async def test_a_product_is_made_once(shop: Shop) -> None:
    key, body = str(uuid7()), {"name": "A lamp", "price": euros(20)}
    first = await shop.staff.post("/api/products/", body, idempotency_key=key)
    second = await shop.staff.post("/api/products", body, idempotency_key=key)
    made = answered(first, 201)
    assert same(first, second)
    assert first.headers["location"] == f"/api/products/{made['id']}/"
    other = await shop.staff.post("/api/products/", body, idempotency_key=str(uuid7()))
    assert answered(other, 201)["id"] != made["id"]


async def test_another_body_is_refused(shop: Shop) -> None:
    key, body = str(uuid7()), {"name": "A lamp", "price": euros(20)}
    answered(await shop.staff.post("/api/products/", body, idempotency_key=key), 201)
    before = await shop.rows()
    for other in ({"name": "Another lamp"}, {"price": euros(21)}, {"stock": 1}):
        answer = await shop.staff.post("/api/products/", body | other, idempotency_key=key)
        assert refused(answer, "IDEMPOTENCY_KEY_REUSED").fields.keys() == {"idempotency-key"}
    assert await shop.rows() == before


async def test_ten_at_once_make_one(shop: Shop) -> None:
    key, stone = str(uuid7()), uuid7().hex
    body = {"name": "A lamp", "price": euros(20), "attributes": {"stone": stone}}
    answers = await asyncio.gather(
        *(shop.staff.post("/api/products/", body, idempotency_key=key) for _ in range(10))
    )
    for answer in answers:
        if answer.status_code != 201:
            refused(answer, "IDEMPOTENCY_KEY_IN_USE")
    made = [answer for answer in answers if answer.status_code == 201]
    assert made
    assert all(same(made[0], answer) for answer in made)
    listed = answered(await shop.nobody.get("/api/products/", attributes=f"stone={stone}"))
    assert len(listed["products"]) == 1


async def test_a_change_of_stock_happens_once(shop: Shop) -> None:
    product = await shop.new_product(stock=5)
    path, key = f"/api/variants/{product['default_variant_id']}/stock/", str(uuid7())
    body = {"change": 3, "reason": "RESTOCK"}
    first = await shop.staff.post(path, body, idempotency_key=key)
    assert answered(first)["variant"]["on_hand"] == 8
    assert same(first, await shop.staff.post(path, body, idempotency_key=key))
    ledger = answered(await shop.staff.get(f"{path}movements/"))["movements"]
    assert [line["change"] for line in ledger] == [3, 5]


async def test_updates_and_deletes_take_keys_too(shop: Shop) -> None:
    product = await shop.new_product()
    path, key = f"/api/products/{product['id']}/", str(uuid7())
    body = {"name": "Another lamp", "etag": product["etag"]}
    first = await shop.staff.put(path, body, idempotency_key=key)
    answered(first)
    assert same(first, await shop.staff.put(path, body, idempotency_key=key))
    headers = {"idempotency-key": key}  # a key belongs to its method
    gone = await shop.staff.call("DELETE", path, headers=headers)
    assert answered(gone)["state"] == "ARCHIVED"
    assert same(gone, await shop.staff.call("DELETE", path, headers=headers))


async def test_a_sign_up_is_repeated_without_a_word_about_the_address(shop: Shop) -> None:
    key, body = str(uuid7()), {"email": new_address(), "password": PASSWORD}
    first = await shop.nobody.post("/api/users/", body, idempotency_key=key)
    answered(first, 201)
    assert same(first, await shop.nobody.post("/api/users/", body, idempotency_key=key))
    refused(await shop.nobody.post("/api/users/", body), "EMAIL_TAKEN")
    assert len(await shop.mails(body["email"], "confirm")) == 1


async def test_keys_of_different_people_never_meet(shop: Shop) -> None:
    ada, eve = await shop.sign_up(), await shop.sign_up()
    key, postal = str(uuid7()), {"region_code": "GB", "address_lines": ["1 Byron Row"]}
    found = []
    for person in (ada, eve):
        answer = await person.post(
            "/api/users/me/addresses/", {"postal_address": postal}, idempotency_key=key
        )
        found.append(answered(answer, 201)["user_id"])
    assert found == [ada.id, eve.id]


async def test_a_refusal_is_not_kept(shop: Shop) -> None:
    key, sku = str(uuid7()), f"LAMP-{uuid7().hex[-12:]}"
    body = {"name": "A lamp", "price": euros(20), "sku": sku}
    first = await shop.new_product(sku=sku)
    refused(await shop.staff.post("/api/products/", body, idempotency_key=key), "SKU_TAKEN")
    answered(await shop.staff.put(f"/api/products/{first['id']}/", {"sku": f"{sku}-old"}))
    answered(await shop.staff.post("/api/products/", body, idempotency_key=key), 201)
