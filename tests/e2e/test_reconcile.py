"""`shop reconcile` beside a running shop."""

from __future__ import annotations

from collections.abc import Iterator
from subprocess import CompletedProcess
from typing import Any

import httpx
import pytest

from tests.e2e.orders import ordered, until
from tests.shop import SHOP, command
from tests.visitors import Shop, answered

INTENTS = "/v1/payment_intents"


@pytest.fixture
def stripe(shop: Shop) -> Iterator[httpx.Client]:
    """The control path of the shop's sandbox, without faults afterwards."""
    address = (shop.up.data / "stripe-address").read_text().strip()
    with httpx.Client(base_url=f"http://{address}/_sandbox", trust_env=False) as client:
        yield client
        client.delete("/faults")


def fault(stripe: httpx.Client, kind: str, **more: Any) -> None:
    assert stripe.post("/faults", json={"kind": kind, **more}).status_code == 200


async def reconcile(shop: Shop) -> CompletedProcess[str]:
    ended = await command(SHOP, "reconcile", "--data", shop.up.data)
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended


async def test_what_got_lost_is_settled_and_the_order_knows(
    shop: Shop, stripe: httpx.Client
) -> None:
    ada = await shop.sign_up()
    order, other = await ordered(shop, ada), await ordered(shop, ada)
    fault(stripe, "lose_answer", match={"path": INTENTS, "method": "POST"})
    body = {"order_id": order["id"], "payment_method": "pm_card_visa"}
    assert answered(await ada.post("/api/payment/", body))["status"] == "UNKNOWN"
    body = {"order_id": other["id"], "payment_method": "pm_card_threeDSecureRequired"}
    assert answered(await ada.post("/api/payment/", body))["status"] == "REQUIRES_ACTION"
    ended = await reconcile(shop)
    assert ended.returncode == 0, (ended.stdout, ended.stderr)
    assert "REQUIRES_ACTION: waits for its customer's 3-D Secure step" in ended.stdout
    assert "UNKNOWN" not in ended.stdout
    assert "Nothing is wrong." in ended.stdout
    await until(ada, order, "PAID")


async def test_without_stripes_answer_it_says_so_and_fails(
    shop: Shop, stripe: httpx.Client
) -> None:
    fault(stripe, "server_error", match={"path": INTENTS, "method": "GET"}, times=None)
    ended = await reconcile(shop)
    assert ended.returncode == 1
    assert "Stripe did not answer" in ended.stdout
    assert "Not all is settled." in ended.stdout
