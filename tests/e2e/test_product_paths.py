"""The documented REST paths of products, in both slash forms."""

from __future__ import annotations

import pytest

from services.kit.ids import uuid7
from tests.refusals import refused
from tests.visitors import Shop, answered, euros


class TestPostProducts:
    async def test_answers_201_with_the_product(self, shop: Shop, slash: str) -> None:
        body = {
            "name": f"Brass lamp {uuid7().hex[-6:]}",
            "description": "It *shines*.",
            "sku": f"LAMP-{uuid7().hex[-12:]}",
            "price": euros(49, 90),
            "compare_at_price": euros(60),
            "stock": 3,
            "attributes": {"material": "brass"},
            "media": [{"url": "https://example.com/lamp.jpg", "alt": "A lamp"}],
        }
        answer = await shop.staff.post(f"/api/products{slash}", body)
        product = answered(answer, 201)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["location"] == f"/api/products/{product['id']}/"
        (variant,) = product["variants"]
        times = {"create_time": product["create_time"], "update_time": product["update_time"]}
        assert variant == {
            "id": product["default_variant_id"],
            "product_id": product["id"],
            "sku": body["sku"],
            "options": {},
            "price": {"currency_code": "EUR", "units": "49", "nanos": 900_000_000},
            "compare_at_price": {"currency_code": "EUR", "units": "60", "nanos": 0},
            "weight_grams": 0,
            "allow_backorder": False,
            "on_hand": 3,
            "reserved": 0,
            "available": 3,
            "inventory_status": "LOW_STOCK",
            "etag": variant["etag"],
            **times,
        }
        assert product == {
            "id": product["id"],
            "slug": str(body["name"]).lower().replace(" ", "-"),
            "name": body["name"],
            "description": "It *shines*.",
            "state": "ACTIVE",
            "category_ids": [],
            "attributes": {"material": "brass"},
            "media": [{"url": "https://example.com/lamp.jpg", "alt": "A lamp"}],
            "variants": [variant],
            "default_variant_id": variant["id"],
            "sku": body["sku"],
            "price": variant["price"],
            "compare_at_price": variant["compare_at_price"],
            "available": 3,
            "inventory_status": "LOW_STOCK",
            "etag": product["etag"],
            **times,
        }

    async def test_the_location_leads_to_the_product(self, shop: Shop, slash: str) -> None:
        body = {"name": "A lamp", "price": euros(20)}
        answer = await shop.staff.post(f"/api/products{slash}", body)
        assert answered(await shop.staff.get(answer.headers["location"])) == answer.json()

    async def test_what_is_empty_is_printed_too(self, shop: Shop, slash: str) -> None:
        body = {"name": "A lamp", "price": euros(0)}
        product = answered(await shop.staff.post(f"/api/products{slash}", body), 201)
        assert product["description"] == ""
        assert product["attributes"] == {}
        assert product["media"] == product["category_ids"] == []
        assert product["price"] == {"currency_code": "EUR", "units": "0", "nanos": 0}
        assert (product["available"], product["inventory_status"]) == (0, "OUT_OF_STOCK")

    async def test_is_for_staff(self, shop: Shop, slash: str) -> None:
        body = {"name": "A lamp", "price": euros(20)}
        refused(await shop.nobody.post(f"/api/products{slash}", body), "TOKEN_MISSING")
        ada = await shop.sign_up()
        refusal = refused(await ada.post(f"/api/products{slash}", body), "ROLE_REQUIRED")
        assert refusal.metadata == {"role": "STAFF"}

    async def test_a_sku_in_use_is_refused(self, shop: Shop, slash: str) -> None:
        product = await shop.new_product()
        body = {"name": "A lamp", "price": euros(20), "sku": product["sku"]}
        refused(await shop.staff.post(f"/api/products{slash}", body), "SKU_TAKEN")


class TestGetProducts:
    async def test_answers_a_page_and_the_way_to_the_next(self, shop: Shop, slash: str) -> None:
        word = f"z{uuid7().hex[-10:]}"
        made = [await shop.new_product(name=f"{word} {number}") for number in range(3)]
        found: list[str] = []
        token, sizes = "", []
        while True:
            page = answered(
                await shop.nobody.get(
                    f"/api/products{slash}", q=word, page_size=2, page_token=token, order_by="name"
                )
            )
            assert page.keys() == {"products", "next_page_token"}
            sizes.append(len(page["products"]))
            found += [product["id"] for product in page["products"]]
            token = page["next_page_token"]
            if not token:
                break
        assert (sizes, found) == ([2, 1], [product["id"] for product in made])

    async def test_an_empty_page_is_printed_too(self, shop: Shop, slash: str) -> None:
        answer = await shop.nobody.get(f"/api/products{slash}", q=uuid7().hex)
        assert answered(answer) == {"products": [], "next_page_token": ""}

    async def test_filters_come_from_the_query(self, shop: Shop, slash: str) -> None:
        stone = uuid7().hex
        cheap = await shop.new_product(price=euros(5), stock=0, attributes={"stone": stone})
        dear = await shop.new_product(price=euros(50), attributes={"stone": stone})
        for query, expected in (
            ({}, [dear, cheap]),
            ({"min_price": "1000"}, [dear]),
            ({"max_price": 1000}, [cheap]),
            ({"in_stock": "true"}, [dear]),
            ({"order_by": "price"}, [cheap, dear]),
            ({"currency_code": "USD"}, []),
        ):
            answer = await shop.nobody.get(
                f"/api/products{slash}", attributes=f"stone={stone}", **query
            )
            found = [product["id"] for product in answered(answer)["products"]]
            assert found == [product["id"] for product in expected], query

    async def test_drafts_are_listed_for_staff_alone(self, shop: Shop, slash: str) -> None:
        path, query = f"/api/products{slash}", {"state": "DRAFT", "page_size": 1}
        refused(await shop.nobody.get(path, **query), "ROLE_REQUIRED")
        await shop.new_product(state="DRAFT")
        (draft,) = answered(await shop.staff.get(path, **query))["products"]
        assert draft["state"] == "DRAFT"


class TestGetProductsId:
    @pytest.mark.parametrize("by", ["id", "slug"])
    async def test_answers_the_product(self, shop: Shop, slash: str, by: str) -> None:
        product = await shop.new_product()
        found = answered(await shop.nobody.get(f"/api/products/{product[by]}{slash}"))
        (variant,) = found["variants"]
        assert "on_hand" not in variant
        assert "reserved" not in variant
        variant |= {"on_hand": 5, "reserved": 0}
        assert found == product

    async def test_what_is_not_there_is_404(self, shop: Shop, slash: str) -> None:
        id = str(uuid7())
        refusal = refused(await shop.nobody.get(f"/api/products/{id}{slash}"), "RESOURCE_NOT_FOUND")
        assert refusal.metadata == {"resource": "product", "id": id}

    async def test_a_draft_is_there_for_staff_alone(self, shop: Shop, slash: str) -> None:
        draft = await shop.new_product(state="DRAFT")
        path = f"/api/products/{draft['id']}{slash}"
        refused(await shop.nobody.get(path), "RESOURCE_NOT_FOUND")
        assert answered(await shop.staff.get(path)) == draft


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
class TestPutProductsId:
    async def test_changes_what_is_sent(self, shop: Shop, slash: str, verb: str) -> None:
        before = await shop.new_product(description="Old", attributes={"age": "old"})
        path = f"/api/products/{before['id']}{slash}"
        body = {"name": "Another lamp", "price": euros(30), "attributes": {"age": "new"}}
        after = answered(await shop.staff.call(verb, path, body))
        price = {"currency_code": "EUR", "units": "30", "nanos": 0}
        changed = {key: value for key, value in after.items() if before[key] != value}
        assert changed.keys() == {"name", "price", "attributes", "variants", "update_time", "etag"}
        assert (after["name"], after["price"], after["attributes"]) == (
            "Another lamp",
            price,
            {"age": "new"},
        )
        assert after["variants"][0]["price"] == price
        assert answered(await shop.staff.get(path)) == after

    async def test_a_mask_in_the_query_clears(self, shop: Shop, slash: str, verb: str) -> None:
        before = await shop.new_product(description="Old", compare_at_price=euros(30))
        path = f"/api/products/{before['id']}{slash}"
        query = {"update_mask": "description,compare_at_price,name"}
        after = answered(await shop.staff.call(verb, path, {"name": "New"}, query=query))
        assert (after["name"], after["description"]) == ("New", "")
        assert "compare_at_price" not in after

    async def test_a_mask_in_the_body_clears(self, shop: Shop, slash: str, verb: str) -> None:
        before = await shop.new_product(description="Old", attributes={"age": "old"})
        path = f"/api/products/{before['id']}{slash}"
        body = {"name": "Not this", "update_mask": "description,attributes"}
        after = answered(await shop.staff.call(verb, path, body))
        assert (after["name"], after["description"], after["attributes"]) == ("A lamp", "", {})

    async def test_two_masks_that_differ_are_refused(
        self, shop: Shop, slash: str, verb: str
    ) -> None:
        before = await shop.new_product(description="Old", attributes={"age": "old"})
        path = f"/api/products/{before['id']}{slash}"
        answer = await shop.staff.call(
            verb, path, {"update_mask": "attributes"}, query={"update_mask": "description"}
        )
        refused(answer, "MALFORMED_REQUEST")
        assert answered(await shop.staff.get(path)) == before

    async def test_an_unknown_field_in_a_mask_is_named(
        self, shop: Shop, slash: str, verb: str
    ) -> None:
        product = await shop.new_product()
        path = f"/api/products/{product['id']}{slash}"
        answer = await shop.staff.call(verb, path, {}, query={"update_mask": "name,colour"})
        assert refused(answer, "UNKNOWN_FIELD_IN_MASK").metadata == {"field": "colour"}

    async def test_a_stale_etag_is_refused(self, shop: Shop, slash: str, verb: str) -> None:
        product = await shop.new_product()
        path = f"/api/products/{product['id']}{slash}"
        first = {"name": "First", "etag": product["etag"]}
        fresh = answered(await shop.staff.call(verb, path, first))["etag"]
        second = {"name": "Second", "etag": product["etag"]}
        refusal = refused(await shop.staff.call(verb, path, second), "ETAG_MISMATCH")
        assert refusal.metadata == {"etag": fresh}
        assert answered(await shop.nobody.get(path))["name"] == "First"


class TestDeleteProductsId:
    async def test_archives(self, shop: Shop, slash: str) -> None:
        stone = uuid7().hex
        product = await shop.new_product(attributes={"stone": stone})
        path = f"/api/products/{product['id']}{slash}"
        assert answered(await shop.staff.delete(path))["state"] == "ARCHIVED"
        assert answered(await shop.nobody.get(path))["state"] == "ARCHIVED"
        listed = answered(await shop.nobody.get("/api/products", attributes=f"stone={stone}"))
        assert listed["products"] == []

    async def test_twice_is_fine(self, shop: Shop, slash: str) -> None:
        path = f"/api/products/{(await shop.new_product())['id']}{slash}"
        once = answered(await shop.staff.delete(path))
        assert answered(await shop.staff.delete(path)) == once

    async def test_a_stale_etag_is_refused(self, shop: Shop, slash: str) -> None:
        path = f"/api/products/{(await shop.new_product())['id']}{slash}"
        refused(await shop.staff.delete(path, etag="v99"), "ETAG_MISMATCH")
        assert answered(await shop.nobody.get(path))["state"] == "ACTIVE"
