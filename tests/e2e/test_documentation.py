"""The documentation as a newcomer meets it: signs up, orders and pays, all in a real browser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import Browser, browsing
from tests.visitors import PASSWORD, Shop, answered, new_address

# By a link of the introduction where there is one, else by its tag: to be asked until it is open.
_OPEN = """
const [tag, name] = arguments, place = document.getElementById(`operations-${tag}-${name}`);
const link = document.querySelector(`.way a[href="#/${tag}/${name}"]`);
const header = document.getElementById(`operations-tag-${tag}`);
if (place?.querySelector("button.execute")) return true;
if (link) link.click();
else if (!place && header.dataset.isOpen === "false") header.click();
else if (place && !place.classList.contains("is-open")) place.querySelector("button").click();
return false;
"""
_EXECUTE = """
const place = document.querySelector(arguments[0]);
const button = place?.querySelector("button.execute");
if (!button) return false;
button.click();
return true;
"""
_ANSWER = """
const answer = document.querySelector(`${arguments[0]} .live-responses-table .response`);
if (!answer) return null;
const text = answer.querySelector(".highlight-code")?.textContent ?? "";
return [answer.querySelector(".response-col_status").textContent, text];
"""
# As a person would, but at once: at each key the page looks at the whole body.
_FILL = """
const [selector, value] = arguments, field = document.querySelector(selector);
if (!field) return false;
const set = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value").set;
set.call(field, value);
for (const name of ["input", "change"]) field.dispatchEvent(new Event(name, {bubbles: true}));
return true;
"""


def open_(browser: Browser, tag: str, name: str) -> None:
    """Open an operation. The page draws much anew at each click."""
    browser.wait(_OPEN, tag, name, pause=0.6)


class Documentation:
    """The page, and what a person does on it."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser = browser
        browser.open(f"{address}/docs/")
        browser.wait("return document.querySelector('.opblock-tag') !== null")

    def sign(self, how: str, email: str, password: str) -> None:
        """Sign in or up, at the top of the page."""
        self.browser.type("input[name=email]", email)
        self.browser.type("input[name=password]", password)
        self.browser.press(f"button[value={how}]")
        said = "return document.querySelector('#signed-in').innerText"
        self.browser.wait("return !document.querySelector('#signed-in').hidden")
        assert email in self.browser.run(said)

    def sign_out(self) -> None:
        """Press the button that was not there before."""
        self.browser.press("#signed-in button")
        self.browser.wait("return document.querySelector('#signed-in').hidden")

    def call(
        self, tag: str, name: str, *, example: str = "", body: Any = None
    ) -> tuple[str, dict[str, Any]]:
        """Open an operation, fill it in, and execute it: status and answer."""
        place = f"#operations-{tag}-{name}"
        open_(self.browser, tag, name)
        if example:
            assert self.browser.run(_FILL, f"{place} .examples-select-element", example)
        if body is not None:
            field = f"{place} textarea.body-param__text"
            assert self.browser.run(_FILL, field, json.dumps(body))
        assert self.browser.run(_EXECUTE, place)
        status, text = self.browser.wait(_ANSWER, place)
        return status, json.loads(text[text.index("{") : text.rindex("}") + 1])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile"), width=1280, height=1000) as browser:
        yield browser


async def test_a_newcomer_orders_and_pays_on_the_page(shop: Shop, browser: Browser) -> None:
    address, email = shop.ready.edge, new_address()

    def story() -> str:
        page = Documentation(browser, address)
        page.sign("login", shop.admin.email, shop.admin.password)
        status, product = page.call("Catalog", "CreateProduct")  # as it is filled in
        assert (status, product["name"]) == ("201", "Brass reading lamp")
        page.sign_out()

        page.sign("sign-up", email, PASSWORD)
        status, cart = page.call(
            "Cart", "AddItem", body={"product_id": product["id"], "quantity": 2}
        )
        assert (status, cart["item_count"]) == ("200", 2)
        status, order = page.call("Order", "CreateOrder", example="what-is-in-the-cart")
        assert (status, order["status"]) == ("201", "AWAITING_PAYMENT")
        paying = {"order_id": order["id"], "payment_method": "pm_card_visa"}
        status, payment = page.call("Payment", "ProcessPayment", body=paying)
        assert (status, payment["status"]) == ("200", "SUCCEEDED")
        page.sign_out()
        status, refused = page.call("User", "ListUsers")
        assert (status, refused["details"][0]["reason"]) == ("401", "TOKEN_MISSING")
        return str(order["id"])

    order = await asyncio.to_thread(story)
    paid = answered(await shop.staff.get(f"/api/orders/{order}/"))
    assert (paid["email"], paid["total"]["currency_code"]) == (email, "USD")


async def test_it_fits_a_telephone(shop: Shop, browser: Browser) -> None:
    def look() -> None:
        browser.resize(390, 844)
        for path in ("/", "/docs/"):
            browser.open(f"{shop.ready.edge}{path}")
            if path == "/docs/":
                browser.wait("return document.querySelector('.opblock-tag') !== null")
                open_(browser, "Payment", "ProcessPayment")
            page, window = browser.width_of_page()
            assert page <= window

    await asyncio.to_thread(look)
