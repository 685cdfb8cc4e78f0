"""What staff and visitors do with the catalogue."""

from __future__ import annotations

from typing import Any

import grpc

from services.kit.auth import SERVICE_HEADER, ServiceCredential
from services.kit.ids import uuid7
from shop.catalog.v1 import stock_pb2, stock_pb2_grpc
from tests.refusals import refused
from tests.visitors import Person, Shop, answered, euros


async def names(shop: Shop, **query: Any) -> list[str]:
    """The names of the products that a visitor finds."""
    page = answered(await shop.nobody.get("/api/products/", **query))
    return [product["name"] for product in page["products"]]


async def add_category(shop: Shop, name: str, **fields: Any) -> dict[str, Any]:
    """A new category, which has to be where its location says."""
    answer = await shop.staff.post("/api/categories/", {"name": name} | fields)
    category = answered(answer, 201)
    assert answer.headers["location"] == f"/api/categories/{category['id']}/"
    assert answered(await shop.nobody.get(answer.headers["location"])) == category
    assert answered(await shop.nobody.get(f"/api/categories/{category['slug']}")) == category
    return category


async def test_grace_becomes_staff(shop: Shop) -> None:
    grace = await shop.sign_up()
    shelf = {"name": f"Shelf {uuid7().hex}"}
    assert refused(await grace.post("/api/categories/", shelf), "ROLE_REQUIRED").metadata == {
        "role": "STAFF"
    }
    path = f"/api/users/{grace.id}/role/"
    refused(await grace.put(path, {"role": "ADMIN"}), "ROLE_REQUIRED")
    refused(await shop.staff.put(path, {"role": "STAFF"}), "ROLE_REQUIRED")
    assert answered(await shop.admin.put(path, {"role": "STAFF"}))["role"] == "STAFF"

    # Her token still says what she was; the next one says what she is.
    refused(await grace.post("/api/categories/", shelf), "ROLE_REQUIRED")
    answer = await shop.nobody.post("/api/auth/refresh/", {"refresh_token": grace.refresh_token})
    grace = Person(shop.http, grace.email, grace.password, answered(answer))
    answered(await grace.post("/api/categories/", shelf), 201)


async def test_a_shelf_is_filled_and_browsed(shop: Shop) -> None:
    # A word of its own keeps this story apart from others in the same shop.
    word = f"q{uuid7().hex[-8:]}"
    lighting = await add_category(shop, f"Lighting {word}")
    lamps = await add_category(shop, f"Lamps {word}", parent_id=lighting["id"])

    # A product with variants, and one without.
    desk = await shop.new_product(
        name=f"Desk lamp {word}",
        description="Bends where you want it.",
        category_ids=[lamps["id"]],
        price=None,
        stock=None,
        variants=[
            {"sku": f"{word}-S", "options": {"size": "S"}, "price": euros(30), "stock": 2},
            {"sku": f"{word}-L", "options": {"size": "L"}, "price": euros(45), "stock": 9},
        ],
    )
    assert [variant["options"] for variant in desk["variants"]] == [{"size": "S"}, {"size": "L"}]
    assert (desk["sku"], desk["available"]) == (f"{word}-S", 2)
    assert desk["inventory_status"] == "IN_STOCK"  # the best of the two
    torch = await shop.new_product(
        name=f"Torch {word}", category_ids=[lighting["id"]], price=euros(12), stock=0
    )

    # A visitor finds them: by shelf, with the shelves below; by words, unfinished or misspelt.
    listed = answered(await shop.nobody.get("/api/categories/", parent_id=lighting["id"]))
    assert listed["categories"] == [lamps]
    assert await names(shop, category_id=lighting["id"], order_by="price") == [
        torch["name"],
        desk["name"],
    ]
    assert await names(shop, category_id=lamps["id"]) == [desk["name"]]
    assert await names(shop, q=f"desk {word}") == [desk["name"]]
    assert await names(shop, q=f"{word} tor") == [torch["name"]]
    assert await names(shop, q=f"bends {word}") == [desk["name"]]
    assert await names(shop, q=f"dessk {word}") == [desk["name"]]
    assert await names(shop, category_id=lighting["id"], in_stock="true") == [desk["name"]]
    page = answered(await shop.nobody.get(f"/api/products/{desk['slug']}/"))
    assert page["variants"][1]["price"] == desk["variants"][1]["price"]

    # The shelf cannot go while something is on it or below it.
    path = f"/api/categories/{lighting['id']}/"
    refused(await shop.staff.delete(path), "CATEGORY_NOT_EMPTY")
    refused(await shop.staff.put(path, {"parent_id": lamps["id"]}), "CATEGORY_CYCLE")
    for product in (desk, torch):
        answered(
            await shop.staff.put(f"/api/products/{product['id']}/?update_mask=category_ids", {})
        )
    assert answered(await shop.staff.delete(f"/api/categories/{lamps['id']}/")) == {}
    assert answered(await shop.staff.delete(path)) == {}
    refused(await shop.nobody.get(path), "RESOURCE_NOT_FOUND")

    # The torch is taken off the shelves, and comes back.
    torch_path = f"/api/products/{torch['id']}/"
    answered(await shop.staff.delete(torch_path))
    assert await names(shop, q=word, order_by="name") == [desk["name"]]
    answered(await shop.staff.put(torch_path, {"state": "ACTIVE"}))
    assert await names(shop, q=word, order_by="name") == [desk["name"], torch["name"]]


async def test_variants_come_and_go(shop: Shop) -> None:
    product = await shop.new_product()
    path = f"/api/products/{product['id']}"
    (first,) = product["variants"]
    new = {"options": {"size": "XL"}, "price": euros(25), "weight_grams": 900}
    answer = await shop.staff.post(f"{path}/variants/", new)
    second = answered(answer, 201)
    assert answer.headers["location"] == f"{path}/variants/{second['id']}/"
    dollars = new | {"price": euros(25) | {"currency_code": "USD"}}
    refused(await shop.staff.post(f"{path}/variants/", dollars), "CURRENCY_MISMATCH")
    refused(await shop.staff.post(f"{path}/variants/", new), "OPTIONS_TAKEN")

    changed = answered(
        await shop.staff.put(
            f"{path}/variants/{second['id']}/", {"price": euros(27), "etag": second["etag"]}
        )
    )
    assert changed["price"]["units"] == "27"
    stale = {"price": euros(28), "etag": second["etag"]}
    refused(await shop.staff.put(f"{path}/variants/{second['id']}/", stale), "ETAG_MISMATCH")

    # The default goes, the other takes its place, and the last one has to stay.
    assert answered(await shop.staff.delete(f"{path}/variants/{first['id']}/")) == {}
    left = answered(await shop.nobody.get(f"{path}/"))
    assert (left["default_variant_id"], left["price"]["units"]) == (second["id"], "27")
    refused(await shop.staff.delete(f"{path}/variants/{second['id']}/"), "LAST_VARIANT")


async def test_stock_is_kept_in_a_ledger(shop: Shop) -> None:
    product = await shop.new_product(stock=10)
    path = f"/api/variants/{product['default_variant_id']}/stock/"

    async def available() -> tuple[int, str]:
        found = answered(await shop.nobody.get(f"/api/products/{product['id']}/"))
        return found["available"], found["inventory_status"]

    assert await available() == (10, "IN_STOCK")
    body = {"change": -6, "reason": "DAMAGE", "note": "A shelf came down."}
    adjusted = answered(await shop.staff.post(path, body))
    assert adjusted["variant"]["on_hand"] == 4
    assert (
        adjusted["movement"].items()
        >= {
            "change": -6,
            "on_hand": 4,
            "reason": "DAMAGE",
            "note": "A shelf came down.",
            "user_id": shop.staff.id,
            "order_id": "",
        }.items()
    )
    assert await available() == (4, "LOW_STOCK")

    # A count that others have overtaken changes nothing.
    count = {"set": {"on_hand": 8, "expected_on_hand": 10}, "reason": "CORRECTION"}
    refusal = refused(await shop.staff.post(path, count), "STOCK_CHANGED")
    assert refusal.metadata == {"on_hand": "4"}
    count["set"] = {"on_hand": 8, "expected_on_hand": 4}
    assert answered(await shop.staff.post(path, count))["variant"]["on_hand"] == 8

    # An order holds some. The order service reserves it, on a port that is not the edge's.
    order, variant = str(uuid7()), product["default_variant_id"]
    secret = (shop.up.data / "secrets" / "service").read_text().strip()
    credential = ((SERVICE_HEADER, ServiceCredential("order", secret).token()),)
    async with grpc.aio.insecure_channel(shop.ready.services["catalog"]) as channel:
        stock = stock_pb2_grpc.StockServiceStub(channel)
        line = stock_pb2.ReserveStockRequest.Line(variant_id=variant, quantity=5)
        reserve = stock_pb2.ReserveStockRequest(order_id=order, lines=[line])
        await stock.ReserveStock(reserve, metadata=credential)
        assert await available() == (3, "LOW_STOCK")
        body = {"change": -4, "reason": "LOSS"}
        refusal = refused(await shop.staff.post(path, body), "STOCK_RESERVED")
        assert refusal.metadata == {"on_hand": "8", "reserved": "5"}
        await stock.CommitReservation(
            stock_pb2.CommitReservationRequest(order_id=order), metadata=credential
        )
    assert await available() == (3, "LOW_STOCK")

    # The ledger tells it all, newest first, and adds up.
    ledger = answered(await shop.staff.get(f"{path}movements/"))["movements"]
    assert [(line["reason"], line["change"], line["on_hand"]) for line in ledger] == [
        ("SALE", -5, 3),
        ("CORRECTION", 4, 8),
        ("DAMAGE", -6, 4),
        ("INITIAL", 10, 10),
    ]
    assert ledger[0]["order_id"] == order
    refused(await shop.nobody.get(f"{path}movements/"), "TOKEN_MISSING")
