"""Prices of one's own choice, in whatever field: what is charged is what the shop asks for."""

from __future__ import annotations

import random
from typing import Any

from tests.e2e.orders import a_request, until
from tests.sizes import size
from tests.visitors import Shop, answered, euros

MONEY = ("price", "amount", "total", "subtotal", "unit_price", "line_total", "discount_total")
CHEAP: list[Any] = [euros(0, 1), euros(-20), "0.01", 1, {"currency_code": "JPY", "units": "20"}]


async def test_tampered_prices_have_no_effect(shop: Shop) -> None:
    """P16: 50 of them, in the order and in its payment, in the body and in the query."""
    chance = random.Random(16)
    ada = await shop.sign_up()
    for number in range(size(50, 8)):
        order = await a_request(shop, quantity=2)
        order["items"][0] |= {chance.choice(MONEY): chance.choice(CHEAP)}
        order |= {chance.choice(MONEY): chance.choice(CHEAP)}
        made = answered(await ada.post("/api/orders/", order), 201)
        assert (made["total"]["units"], made["total"]["currency_code"]) == ("40", "EUR")
        field, body = chance.choice(MONEY), {"order_id": made["id"]}
        body |= {"payment_method": "pm_card_visa", field: chance.choice(CHEAP), "currency": "jpy"}
        if number % 2:
            refusal = await ada.call(
                "POST", "/api/payment/", body, query={f"{field}.units": 1, "currency": "jpy"}
            )
            assert refusal.status_code == 400
        payment = answered(await ada.post("/api/payment/", body))
        assert payment["amount"] == made["total"]
        await until(ada, made, "PAID")
