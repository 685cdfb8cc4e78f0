"""3-D Secure as a customer goes through it: in a real browser, to the order's status."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser import Browser, browsing
from tests.e2e.orders import ordered, until
from tests.visitors import Person, Shop, answered

PHONE = (360, 640)
APPROVE, REFUSE = "#test-source-authorize-3ds", "#test-source-fail-3ds"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def shop_page() -> Iterator[str]:
    """The page of a web shop to which the customer comes back."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<!doctype html><title>The shop</title><p>Welcome back"
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/back?shop=1"
    server.shutdown()
    server.server_close()
    thread.join()


async def asked(shop: Shop, ada: Person, back: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An order, and its payment that waits for the customer."""
    order = await ordered(shop, ada)
    body = {
        "order_id": order["id"],
        "payment_method": "pm_card_threeDSecureRequired",
        "return_url": back,
    }
    payment = answered(await ada.post("/api/payment/", body))
    assert payment["status"] == "REQUIRES_ACTION"
    return order, payment


async def decide(browser: Browser, payment: dict[str, Any], button: str, back: str) -> str:
    """Go to the bank's page and press a button; what the shop's page is told of it."""

    def go() -> str:
        browser.open(payment["redirect_url"])
        assert "20.00 EUR" in browser.text
        assert "card ending in 3063" in browser.text
        assert payment["order_id"] in browser.text
        browser.press(button)
        browser.arrive(back)
        assert "Welcome back" in browser.text
        (status,) = parse_qs(urlsplit(browser.url).query)["redirect_status"]
        return status

    return await asyncio.to_thread(go)


async def test_approved_in_a_browser_the_order_is_paid(
    shop: Shop, browser: Browser, shop_page: str
) -> None:
    ada = await shop.sign_up()
    order, payment = await asked(shop, ada, shop_page)
    assert await decide(browser, payment, APPROVE, shop_page) == "succeeded"
    paid = await until(ada, order, "PAID")
    assert paid["payment_id"] == payment["id"]
    settled = answered(await ada.get(f"/api/payment/{payment['id']}/"))
    assert (settled["status"], settled["redirect_url"]) == ("SUCCEEDED", "")


async def test_refused_in_a_browser_the_order_can_be_paid_otherwise(
    shop: Shop, browser: Browser, shop_page: str
) -> None:
    ada = await shop.sign_up()
    order, payment = await asked(shop, ada, shop_page)
    assert await decide(browser, payment, REFUSE, shop_page) == "failed"
    async with asyncio.timeout(30):
        while True:
            failed = answered(await ada.get(f"/api/payment/{payment['id']}/"))
            if failed["status"] != "REQUIRES_ACTION":
                break
            await asyncio.sleep(0.05)
    assert failed["status"] == "FAILED"
    assert failed["failure"]["code"] == "payment_intent_authentication_failure"
    waiting = answered(await ada.get(f"/api/orders/{order['id']}/"))
    assert waiting["status"] == "AWAITING_PAYMENT"
    body = {"order_id": order["id"], "payment_method": "pm_card_visa"}
    answered(await ada.post("/api/payment/", body))
    await until(ada, order, "PAID")


async def test_on_a_phone_the_banks_page_is_no_wider_than_the_screen(
    shop: Shop, browser: Browser, shop_page: str, tmp_path: Path
) -> None:
    ada = await shop.sign_up()
    _, payment = await asked(shop, ada, shop_page)

    def look() -> tuple[int, int]:
        browser.resize(*PHONE)
        browser.open(payment["redirect_url"])
        (tmp_path / "bank.png").write_bytes(browser.screenshot())
        return browser.width_of_page()

    assert await asyncio.to_thread(look) == (PHONE[0], PHONE[0])
