"""What the README tells a newcomer to type, typed into a new shop with its demo."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.refusals import refused
from tests.shop import ROOT, command, running
from tests.visitors import Shop, Visitor, answered, visiting

README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent
# So that a refusal is a failure, which a newcomer would see as one.
PRELUDE = """
set -euo pipefail
curl() { command curl --silent --show-error --fail-with-body "$@"; }
"""


@pytest.fixture(scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """A shop as `make up` starts it the first time, but for its ports."""
    async with running(tmp_path_factory.mktemp("demo"), "--port", "0") as up, visiting(up) as shop:
        yield shop


def blocks(language: str) -> list[str]:
    """The code blocks of the section about calling the shop."""
    section = README.partition("\n## Call it\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def here(text: str, shop: Shop) -> str:
    """A code block with the ports of this shop, and the virtual environment of this test."""
    edge = shop.ready.edge.removeprefix("http://")
    places = {
        "127.0.0.1:8000": edge,
        "127.0.0.1:8001": shop.ready.services["users"],
        "127.0.0.1:8002": shop.ready.services["catalog"],
        ".venv/bin/shop token": f".venv/bin/shop token --data {shop.up.data}",
        ".venv/bin/": f"{BIN}/",
    }
    for place, this in places.items():
        text = text.replace(place, this)
    return text


async def type_in(block: str) -> list[Any]:
    """Run a block in a shell; the JSON documents that it printed."""
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    ended = await command("bash", "-c", PRELUDE + block, cwd=ROOT, env=environment)
    assert ended.returncode == 0, (ended.stdout, ended.stderr)
    found, rest = [], ended.stdout.strip()
    while rest:
        document, end = json.JSONDecoder().raw_decode(rest)
        found.append(document)
        rest = rest[end:].strip()
    return found


async def test_rest(demo: Shop) -> None:
    # One after the other in one terminal: what is ordered, is ordered with the token from above.
    typed = here("".join(blocks("sh")[:3]), demo)
    lamps, user, me, cart, order, payment, history = await type_in(typed)
    assert "lamp" in lamps["products"][0]["name"].lower()
    assert me == user
    assert me["full_name"] == "Ada"
    assert (cart["user_id"], cart["item_count"]) == (user["id"], 2)
    assert (order["user_id"], order["cart_id"]) == (user["id"], cart["id"])
    assert (payment["order_id"], payment["amount"]) == (order["id"], order["total"])
    assert (payment["status"], payment["refunded_amount"]["units"]) == ("PARTIALLY_REFUNDED", "5")
    statuses = [event["to_status"] for event in history["events"]]
    assert statuses[:2] == ["PENDING", "AWAITING_PAYMENT"]


async def test_grpc_by_reflection(demo: Shop) -> None:
    (page,) = await type_in(here(blocks("sh")[3], demo))
    prices = [int(product["price"].get("units", 0)) for product in page["products"]]
    assert len(prices) == 3
    assert prices == sorted(prices)


async def test_grpc_through_the_edge_as_it_says_below(demo: Shop) -> None:
    block = blocks("sh")[3]
    assert "add `--schema generated/shop.binpb` and take port 8000" in README
    changed = block.replace("buf curl", "buf curl --schema generated/shop.binpb")
    (page,) = await type_in(here(changed.replace(":8002/", ":8000/"), demo))
    assert len(page["products"]) == 3


async def test_a_stub(demo: Shop) -> None:
    (program,) = blocks("python")
    ended = await command(
        sys.executable,
        "-c",
        here(program, demo),
        env=os.environ | {"PYTHONPATH": str(ROOT / "generated")},
    )
    assert ended.returncode == 0, ended.stderr
    listed = answered(await demo.nobody.get("/api/products/", page_size=3))
    assert ended.stdout.strip() == str([product["name"] for product in listed["products"]])


async def test_the_first_call_that_it_prints(demo: Shop) -> None:
    (call,) = re.findall(r"^ *(curl .*)$", demo.up.text(), re.MULTILINE)
    (page,) = await type_in(call)
    assert len(page["products"]) == 3


async def test_the_administrator_that_it_prints_may_set_roles(demo: Shop) -> None:
    assert demo.ready.admin is not None
    assert demo.ready.admin["email"] in demo.up.text()
    assert demo.ready.admin["password"] in demo.up.text()
    assert answered(await demo.staff.get("/api/users/me/"))["role"] == "STAFF"


async def test_two_shops_never_meet(shop: Shop, demo: Shop) -> None:
    ports = [
        re.findall(r"(?<=:)\d{4,5}", json.dumps([each.ready.edge, each.ready.services]))
        for each in (shop, demo)
    ]
    assert not set(ports[0]) & set(ports[1])
    ada = await shop.sign_up()
    refused(await demo.staff.get(f"/api/users/{ada.id}/"), "RESOURCE_NOT_FOUND")
    answered(await shop.staff.get(f"/api/users/{ada.id}/"))
    refused(await Visitor(demo.http, ada.token).get("/api/users/me/"), "TOKEN_INVALID")


def test_the_map_names_what_is_there() -> None:
    section = README.partition("\n## Where things are\n")[2].partition("\n## ")[0]
    folders = re.findall(r"^(\w+/) ", section, re.MULTILINE)
    assert folders
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [name for name in folders + links if not (ROOT / name).exists()] == []
