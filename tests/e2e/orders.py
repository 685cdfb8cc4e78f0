"""How orders come about and get on, over REST."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.visitors import Person, Shop, Visitor, answered

POSTAL = {"region_code": "GB", "address_lines": ["1 Byron Row"], "locality": "London"}


async def a_request(shop: Shop, quantity: int = 1, **fields: Any) -> dict[str, Any]:
    """What to send to order something new."""
    product = await shop.new_product()
    item = {"variant_id": product["default_variant_id"], "quantity": quantity}
    return {"items": [item], "shipping_address": POSTAL} | fields


async def ordered(shop: Shop, who: Person, **fields: Any) -> dict[str, Any]:
    """Somebody's order of something new, which waits to be paid."""
    return answered(await who.post("/api/orders/", await a_request(shop, **fields)), 201)


async def pay(who: Person, order: dict[str, Any]) -> dict[str, Any]:
    """Pay an order with a card that works."""
    body = {"order_id": order["id"], "payment_method": "pm_card_visa"}
    return answered(await who.post("/api/payment/", body))


async def until(who: Visitor, order: dict[str, Any], status: str) -> dict[str, Any]:
    """An order as soon as it has this status."""
    async with asyncio.timeout(60):
        while True:
            now = answered(await who.get(f"/api/orders/{order['id']}/"))
            if now["status"] == status:
                return now
            await asyncio.sleep(0.05)


async def cancel(shop: Shop, owner: Person, order: dict[str, Any]) -> None:
    """Have its owner cancel an order."""
    answered(await owner.post(f"/api/orders/{order['id']}/cancel/", {}))
