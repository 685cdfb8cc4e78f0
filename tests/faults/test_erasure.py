"""Somebody is deleted while the services that hold traces of them die: nothing is left (V2)."""

from __future__ import annotations

import asyncio
import signal

from tests.e2e.orders import until as until_status
from tests.faults.inside import connected, part
from tests.faults.traffic import until
from tests.shop import Process
from tests.visitors import PASSWORD, Person, Shop, answered, euros

# "Gone within 60 s."
GONE_SECONDS = 60.0
HOLDERS = ("order", "cart", "payment")
NAME, STREET, CITY, PHONE = "Canary Bird", "7 Canary Wharf", "Canaryton", "020 7946 0321"
ADDRESS = {
    "region_code": "GB",
    "address_lines": [STREET],
    "locality": CITY,
    "recipients": [NAME],
}


async def live(shop: Shop, email: str) -> Person:
    """Somebody who leaves traces everywhere."""
    new = {"email": email, "password": PASSWORD, "full_name": NAME, "phone": PHONE}
    answered(await shop.nobody.post("/api/users/", new, idempotency_key="canary-1"), 201)
    ada = await Person.signed_in(shop.http, email, PASSWORD)
    address = {"postal_address": ADDRESS, "phone": PHONE}
    answered(await ada.post("/api/users/me/addresses/", address), 201)
    product = (await shop.new_product())["id"]
    item = {"product_id": product, "quantity": 1}
    bought = {"items": [item], "shipping_address": ADDRESS, "note": "Canary sings at the door"}
    order = answered(await ada.post("/api/orders/", bought, idempotency_key="canary-2"), 201)
    path = f"/api/orders/{order['id']}/"
    back = {"return_url": f"http://127.0.0.1/canary/{email}"}
    card = {"order_id": order["id"], "payment_method": "pm_card_visa"}
    paid = await ada.post("/api/payment/", card | back, idempotency_key="canary-3")
    payment = answered(paid)
    await until_status(ada, order, "PAID")
    refund = {"amount": euros(1), "note": "Canary was sorry"}
    answered(await shop.staff.post(f"/api/payment/{payment['id']}/refund/", refund))
    await until_status(ada, order, "PARTIALLY_REFUNDED")
    tracking = {"tracking": {"carrier": "Canary Post"}, "note": "Canary called"}
    answered(await shop.staff.put(path, tracking, idempotency_key="canary-4"))
    gone = answered(await ada.post("/api/orders/", bought), 201)
    stop = {"note": "Canary changed her mind"}
    answered(await ada.post(f"/api/orders/{gone['id']}/cancel/", stop, idempotency_key="c"))
    answered(await ada.post("/api/cart/items/", item, idempotency_key="canary-5"))
    return ada


async def tables_with(shop: Shop, canary: str) -> list[str]:
    """The tables in which it stands, in any column, also inside of bytes."""
    found = []
    async with connected(shop) as database:
        tables = await database.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
            " WHERE schemaname IN ('users', 'catalog', 'cart', 'order', 'payment')"
        )
        for row in tables:
            hexed = canary.encode().hex()
            if await database.fetchval(
                f"SELECT EXISTS (SELECT FROM {row['name']} t"
                " WHERE t::text ILIKE '%' || $1 || '%' OR t::text ILIKE '%' || $2 || '%')",
                canary,
                hexed,
            ):
                found.append(row["name"])
    return found


async def test_nothing_of_a_deleted_user_is_left_though_services_die(shop: Shop) -> None:
    email = "canary.bird@example.com"
    ada = await live(shop, email)
    for canary in ("canary", PHONE, ada.id):
        assert await tables_with(shop, canary)
    users = part(shop, "services.users")
    stopped: list[Process] = [part(shop, f"services.{name}") for name in HOLDERS]
    for process in stopped:
        process.send(signal.SIGSTOP)
    answered(await ada.delete("/api/users/me/"))
    users.send(signal.SIGKILL)
    for process in stopped:
        process.send(signal.SIGKILL)

    left: dict[str, list[str]] = {}

    async def gone() -> bool:
        for canary in (email, "canary", PHONE, "Canary", f"user:{ada.id}"):
            left[canary] = await tables_with(shop, canary)
        left["outbox"] = [name for name in await tables_with(shop, ada.id) if "outbox" in name]
        if not any(left.values()):
            return True
        await asyncio.sleep(0.3)  # it reads all tables, five times
        return False

    try:
        await until(gone, GONE_SECONDS)
    except TimeoutError:
        raise AssertionError(f"not erased: {left}") from None
    # What was bought stays, under the id.
    assert '"order".orders' in await tables_with(shop, ada.id)
    listed = answered(await shop.staff.get(f"/api/orders/user/{ada.id}/"))["orders"]
    assert [order["status"] for order in listed] == ["CANCELLED", "PARTIALLY_REFUNDED"]
    assert {order["shipping_address"]["region_code"] for order in listed} == {"GB"}
    for canary in ("canary", PHONE):
        assert canary not in shop.up.text().lower()
