"""What the services write down: each call under its id (E11), and nothing that is secret (A16)."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx

from cli.data_folder import DataFolder
from services.kit.ids import uuid7
from tests.e2e.orders import POSTAL
from tests.refusals import refused
from tests.visitors import Person, Shop, answered, euros

# As its lines are marked in the output of `shop up`.
EDGE = "envoy"


async def logged(shop: Shop, service: str, request_id: str) -> list[dict[str, Any]]:
    """The lines of a service under a request id, as soon as there are some."""
    async with asyncio.timeout(60):
        while True:
            events = shop.up.events(service)
            found = [event for event in events if event.get("request_id") == request_id]
            if found:
                return found
            await asyncio.sleep(0.02)


async def test_an_answer_carries_the_id_that_is_in_the_log(shop: Shop) -> None:
    new = {"name": "A lamp", "price": euros(20)}
    for service, method, answer in (
        ("users", "/shop.users.v1.UserService/GetUser", await shop.staff.get("/api/users/me/")),
        (
            "catalog",
            "/shop.catalog.v1.CatalogService/CreateProduct",
            await shop.staff.post("/api/products/", new),
        ),
    ):
        (line,) = await logged(shop, service, answer.headers["x-request-id"])
        assert (line["method"], line["code"], line["service"]) == (method, "OK", service)


async def test_a_refusal_is_found_by_its_id_too(shop: Shop) -> None:
    answer = await shop.nobody.get(f"/api/products/{uuid7()}/")
    refused(answer, "RESOURCE_NOT_FOUND")
    (line,) = await logged(shop, "catalog", answer.headers["x-request-id"])
    assert (line["code"], line["reason"]) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


async def test_one_id_is_in_the_logs_of_the_edge_and_of_all_who_are_asked(shop: Shop) -> None:
    ada = await shop.sign_up()
    product = await shop.new_product()
    answered(await ada.post("/api/cart/items/", {"product_id": product["id"], "quantity": 1}))
    created = await ada.post("/api/orders/", {"shipping_address": POSTAL})
    order = answered(created, 201)
    body = {"order_id": order["id"], "payment_method": "pm_card_visa"}
    paid = await ada.post("/api/payment/", body)
    answered(paid)
    for answer, asked in (
        (created, ("users", "catalog", "cart", "order", EDGE)),
        (paid, ("users", "order", "payment", EDGE)),
    ):
        request_id = answer.headers["x-request-id"]
        for program in asked:
            lines = await logged(shop, program, request_id)
            assert all(line.get("level", "info") != "error" for line in lines)
        (line,) = await logged(shop, EDGE, request_id)
        assert line["status"] == answer.status_code


async def test_every_answer_has_an_id_of_its_own(shop: Shop) -> None:
    calls = [
        ("GET", "/api/products/", ""),
        ("GET", "/api/nowhere/", ""),
        ("PUT", "/api/products/", ""),
        ("GET", "/api/users/me/", ""),
        ("POST", "/api/products/", "x" * 66_000),
        ("GET", "/api/products/?nothing=1", ""),
    ]
    answers = [
        await shop.nobody.call(
            verb, path, content=content, headers={"x-request-id": "of-the-client"}
        )
        for verb, path, content in calls
    ]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == len(calls)
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", id) for id in ids)


async def test_secrets_are_nowhere(shop: Shop) -> None:
    canary = uuid7().hex
    email, password, other = f"{canary}@example.com", f"pass {canary}", f"new {canary}"
    body = {"email": email, "password": password, "full_name": canary, "phone": "5550199"}
    answered(await shop.nobody.post("/api/users/", body), 201)
    refused(await shop.nobody.post("/api/users/", body), "EMAIL_TAKEN")
    wrong = {"email": email, "password": f"wrong {canary}"}
    refused(await shop.nobody.post("/api/auth/login/", wrong), "INVALID_CREDENTIALS")
    ada = await Person.signed_in(shop.http, email, password)
    refreshed = answered(
        await shop.nobody.post("/api/auth/refresh/", {"refresh_token": ada.refresh_token})
    )
    verify = await shop.mailed_token(email, "confirm")
    refused(
        await shop.nobody.post("/api/auth/verify-email/", {"token": canary}), "MAIL_TOKEN_INVALID"
    )
    answered(await shop.nobody.post("/api/auth/verify-email/", {"token": verify}))
    change = {"current_password": password, "new_password": other}
    answered(await ada.post("/api/users/me/password/", change))
    answered(await shop.nobody.post("/api/auth/password-reset/", {"email": email}))
    reset = await shop.mailed_token(email, "new password")
    confirm = {"token": reset, "new_password": password}
    answered(await shop.nobody.post("/api/auth/password-reset/confirm/", confirm))
    postal = {"region_code": "GB", "address_lines": [canary]}
    refused(await ada.delete("/api/users/me/"), "SESSION_ENDED")
    ada = await ada.again()
    answered(await ada.post("/api/users/me/addresses/", {"postal_address": postal}), 201)
    listed = await shop.staff.get("/api/users/", email_prefix=canary)
    assert answered(listed)["users"]

    last = await ada.get("/api/users/me/")
    await logged(shop, "users", last.headers["x-request-id"])
    secrets = [canary, "5550199", verify, reset, ada.token, ada.refresh_token]
    secrets += [refreshed["access_token"], refreshed["refresh_token"]]
    texts = [shop.up.text(), *[await metrics(shop, service) for service in shop.ready.services]]
    assert [secret for secret in secrets if any(secret in text for text in texts)] == []


async def metrics(shop: Shop, service: str) -> str:
    """The metrics page of a service."""
    where = json.loads(DataFolder(shop.up.data).running.read_text())["metrics"][service]
    async with httpx.AsyncClient() as http:
        page = await http.get(f"http://{where}/metrics")
    assert "shop_" in page.text
    return page.text
