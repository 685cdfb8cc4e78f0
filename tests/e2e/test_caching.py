"""Answers that web caches may keep, 304 for who has them already, and changes by `if-match`."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from services.kit.etags import opaque
from shop.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from tests.e2e.asks import CONTRACT, PUBLIC, REQUESTS, ask_rest
from tests.refusals import refused
from tests.visitors import Person, Shop, Visitor, answered
from tools.contract import Method

READS = [method for method in PUBLIC if next(method.bindings())[0] == "get"]
CACHEABLE = [method for method in PUBLIC if method.cacheable]
CHANGES = [
    method
    for method in PUBLIC
    if "etag" in {field.name for field in CONTRACT.messages[method.request].field}
]
# Where the resource that a change is about can be read: itself, or in what it is listed in.
RESOURCES = {
    "Address": "/api/users/{user_id}/addresses/{id}/",
    "Variant": "/api/products/{product_id}/",
    "Product": "/api/products/{id}/",
    "Category": "/api/categories/{id}/",
    "Order": "/api/orders/{id}/",
    "Payment": "/api/payment/{id}/",
    "ShippingRate": "/api/shipping-rates/{id}/",
    "TaxRate": "/api/tax-rates/{id}/",
    "Item": "/api/cart/",
    "Cart": "/api/cart/",
    "User": "/api/users/{id}/",
}
# These are done by the owner, to whom all of it belongs.
OWN = ("Item", "Cart", "CancelOrder")


def may_be_kept(answer: httpx.Response) -> bool:
    """Whether a CDN may give this answer to others, and only to those whom it is for."""
    words = {word.strip() for word in answer.headers["cache-control"].split(",")}
    if "public" not in words:
        assert words == {"no-store"}, words
        return False
    ages = dict(word.split("=") for word in words if "=" in word)
    assert 1 <= int(ages["max-age"]) <= 60
    assert int(ages["stale-while-revalidate"]) >= int(ages["max-age"])
    varies = {word.strip().lower() for word in answer.headers["vary"].split(",")}
    assert {"authorization", "accept-encoding"} <= varies
    assert answer.headers["etag"].startswith('W/"')
    return True


class TestReads:
    @pytest.mark.parametrize("method", READS, ids=lambda method: method.proto.name)
    async def test_only_what_is_the_same_for_everybody_is_kept(
        self, shop: Shop, method: Method
    ) -> None:
        """As the option of the contract says, and never what somebody's token was looked at for."""
        owner = await shop.sign_up()
        fields = await REQUESTS[method.name](shop, owner)
        binding = next(method.bindings())
        answer = await ask_rest(shop.nobody, binding, fields)
        assert may_be_kept(answer) == method.cacheable
        if not method.ignores_credentials and not method.proto.server_streaming:
            assert not may_be_kept(await ask_rest(shop.admin, binding, fields))

    async def test_refusals_are_not_kept(self, shop: Shop) -> None:
        for path in ("/api/products/no-such-lamp/", "/api/products/?page_token=x", "/api/nothing/"):
            for headers in ({}, {"if-none-match": "*"}):
                answer = await shop.nobody.call("GET", path, headers=headers)
                assert answer.status_code in (400, 404)
                assert not may_be_kept(answer)

    @pytest.mark.parametrize("method", CACHEABLE, ids=lambda method: method.proto.name)
    async def test_who_has_it_gets_304_and_no_body(
        self, shop: Shop, method: Method, slash: str
    ) -> None:
        fields = await REQUESTS[method.name](shop, shop.staff)
        binding = next(method.bindings())
        slash = slash if "." not in binding[1] else ""
        full = await ask_rest(shop.nobody, binding, fields, slash=slash)
        for form in ("{}", '"x", {}', "*"):
            known = {"if-none-match": form.format(full.headers["etag"])}
            answer = await ask_rest(shop.nobody, binding, fields, slash=slash, headers=known)
            assert (answer.status_code, answer.content) == (304, b"")
            assert may_be_kept(answer)
            assert answer.headers["etag"] == full.headers["etag"]
            told = set(answer.headers)
            assert told.isdisjoint({"content-type", "content-encoding", "x-http-code"})
        other = {"if-none-match": '"x"'}
        again = await ask_rest(shop.nobody, binding, fields, slash=slash, headers=other)
        assert (again.status_code, again.json()) == (200, full.json())

    async def test_the_etag_changes_with_all_that_is_shown(self, shop: Shop) -> None:
        product = await shop.new_product(stock=5)
        path = f"/api/products/{product['id']}/"

        async def tags() -> tuple[str, str]:
            query = {"q": product["name"], "page_size": 1}
            one, all_ = (
                await shop.nobody.get(path),
                await shop.nobody.get("/api/products/", **query),
            )
            assert (one.status_code, all_.status_code) == (200, 200)
            return one.headers["etag"], all_.headers["etag"]

        seen = [await tags()]
        assert await tags() == seen[0]
        # Sold: what is available is another number, though nobody has changed the product.
        variant = product["default_variant_id"]
        answered(
            await shop.staff.post(
                f"/api/variants/{variant}/stock/", {"change": -1, "reason": "DAMAGE"}
            )
        )
        seen.append(await tags())
        answered(await shop.staff.put(path, {"name": f"{product['name']} again"}))
        seen.append(await tags())
        assert len({one for one, _ in seen}) == 3
        assert [opaque(one.removeprefix("W/")) for one, _ in seen] == ["v1", "v1", "v2"]

    async def test_staff_has_another_than_everybody(self, shop: Shop) -> None:
        product = await shop.new_product()
        path = f"/api/products/{product['id']}/"
        public = (await shop.nobody.get(path)).headers["etag"]
        answer = await shop.staff.call("GET", path, headers={"if-none-match": public})
        assert answer.json()["variants"][0]["on_hand"] == 5
        known = {"if-none-match": answer.headers["etag"]}
        again = await shop.staff.call("GET", path, headers=known)
        assert (again.status_code, again.headers["cache-control"]) == (304, "no-store")

    async def test_its_json_is_what_the_edge_would_make_of_it(self, shop: Shop) -> None:
        """The service writes what is read, and the edge what is answered to a change."""
        product = await shop.new_product(
            description='Said "so": 1 < 2 & \\ é ☃ 𝄞\n\t', attributes={"material": "wool"}
        )
        path = f"/api/products/{product['id']}/"
        price = {"currency_code": "EUR", "units": 7, "nanos": 50_000_000}
        by_the_edge = answered(await shop.staff.put(path, {"price": price}))
        by_the_service = answered(await shop.staff.get(path))
        assert by_the_service == by_the_edge
        for one, other in ((by_the_service, by_the_edge), (product, by_the_service)):
            assert list(one) == list(other)
            assert list(one["variants"][0]) == list(other["variants"][0])
        listed = answered(await shop.staff.get("/api/products/", q=product["name"]))
        assert by_the_edge in listed["products"]
        assert listed.keys() == {"products", "next_page_token"}
        public = answered(await shop.nobody.get(path))
        listed = answered(await shop.nobody.get("/api/products/", q=product["name"]))
        assert public in listed["products"]

    async def test_a_draft_is_nothing_to_those_who_know_its_etag(self, shop: Shop) -> None:
        product = await shop.new_product(state="DRAFT")
        path = f"/api/products/{product['id']}/"
        known = {"if-none-match": (await shop.staff.get(path)).headers["etag"]}
        answer = await shop.nobody.call("GET", path, headers=known)
        refused(answer, "RESOURCE_NOT_FOUND")

    async def test_natively_a_message_is_always_answered(self, shop: Shop) -> None:
        product = await shop.new_product()
        stub = catalog_pb2_grpc.CatalogServiceStub(shop.channel)
        request = catalog_pb2.GetProductRequest(id=product["id"])
        call = stub.GetProduct(request, metadata=(("if-none-match", "*"),))
        assert (await call).id == product["id"]
        told = dict(await call.initial_metadata())
        assert told.keys().isdisjoint({"etag", "cache-control", "x-http-code"})


async def etag_of(shop: Shop, method: Method, owner: Person, fields: dict[str, Any]) -> str:
    """The etag that the resource has which a change is about."""
    name = method.proto.name
    who: Visitor = owner if "Item" in name or "Cart" in name else shop.admin
    kind = next((kind for kind in RESOURCES if kind in name), "User")
    found = answered(await who.get(RESOURCES[kind].format(**fields)))
    if "id" in found and (found["id"] == fields.get("id") or "Variant" not in name):
        return str(found["etag"])
    listed = next(value for value in found.values() if isinstance(value, list) and value)
    listed = found["variants"] if "Variant" in name else listed
    return next(str(one["etag"]) for one in listed if one["id"] == fields["id"])


class TestChanges:
    @pytest.mark.parametrize("method", CHANGES, ids=lambda method: method.proto.name)
    async def test_happen_to_the_version_that_is_meant_and_are_412_otherwise(
        self, shop: Shop, method: Method
    ) -> None:
        """Every method whose request has an etag takes the header too."""
        owner = await shop.sign_up()
        fields = await REQUESTS[method.name](shop, owner)
        if method.proto.name in ("ClearCart", "AddItem"):
            await REQUESTS["shop.cart.v1.CartService.UpdateItem"](shop, owner)
        who = owner if any(word in method.proto.name for word in OWN) else shop.admin
        known = await etag_of(shop, method, owner, fields)
        bindings = list(method.bindings())
        for binding in bindings:
            stale = await ask_rest(who, binding, fields, headers={"if-match": '"v999"'})
            assert refused(stale, "ETAG_MISMATCH", 412).metadata == {"etag": known}
            both = fields | {"etag": "v998"}
            twice = await ask_rest(who, binding, both, headers={"if-match": '"v999"'})
            assert refused(twice, "VALIDATION_FAILED").fields.keys() == {"etag"}
        meant = {"if-match": f'W/"{known}"'}
        answer = await ask_rest(who, bindings[0], fields, headers=meant)
        assert answer.status_code == 200, answer.text

    async def test_the_etag_of_a_read_will_do(self, shop: Shop) -> None:
        product = await shop.new_product()
        path = f"/api/products/{product['id']}/"
        tag = (await shop.nobody.get(path)).headers["etag"]
        change = {"name": "Another lamp"}
        first = await shop.staff.call("PATCH", path, change, headers={"if-match": tag})
        assert answered(first)["name"] == "Another lamp"
        refused(
            await shop.staff.call("PATCH", path, change, headers={"if-match": tag}),
            "ETAG_MISMATCH",
            412,
        )

    async def test_without_the_header_it_stays_409(self, shop: Shop) -> None:
        product = await shop.new_product()
        body = {"name": "x", "etag": "v9"}
        refused(await shop.staff.put(f"/api/products/{product['id']}/", body), "ETAG_MISMATCH", 409)

    async def test_nor_may_a_creation_be_conditional(self, shop: Shop) -> None:
        body = {"name": "A lamp", "price": {"currency_code": "EUR", "units": "1"}}
        answer = await shop.staff.call("POST", "/api/products/", body, headers={"if-match": "*"})
        assert refused(answer, "VALIDATION_FAILED").fields.keys() == {"if-match"}
