"""Carts of customers and guests."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.money_pb2 import Money
from grpc import StatusCode

from services.cart import store
from services.kit.ids import uuid7
from shop.cart.v1.cart_pb2 import (
    AddItemRequest,
    Cart,
    CartProblem,
    ClearCartRequest,
    GetCartRequest,
    MergeCartRequest,
    RemoveItemRequest,
    UpdateItemRequest,
)
from shop.cart.v1.cart_pb2_grpc import CartServiceStub
from shop.catalog.v1.catalog_pb2 import (
    CreateVariantRequest,
    DeleteProductRequest,
    DeleteVariantRequest,
    Product,
    UpdateProductRequest,
)
from tests.callers import NOBODY, User
from tests.cart.conftest import Shelf, euros, guest
from tests.running import Running, refused


def quantities(cart: Cart) -> dict[str, int]:
    return {item.product_name: item.quantity for item in cart.items}


async def add(
    carts: CartServiceStub, product: Product, metadata: Any, quantity: int = 1, **fields: Any
) -> Cart:
    request = AddItemRequest(product_id=product.id, quantity=quantity, **fields)
    return await carts.AddItem(request, metadata=metadata)


class TestGetCart:
    async def test_a_customer_without_a_cart_gets_an_empty_one(
        self, carts: CartServiceStub, customer: User
    ) -> None:
        assert await carts.GetCart(GetCartRequest(), metadata=customer()) == Cart()
        assert await carts.GetCart(GetCartRequest(), metadata=NOBODY) == Cart()

    async def test_an_unknown_token_is_not_found(self, carts: CartServiceStub) -> None:
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await carts.GetCart(GetCartRequest(), metadata=guest("no such token"))

    async def test_it_takes_one_statement_and_one_call(
        self,
        carts: CartServiceStub,
        shelf: Shelf,
        customer: User,
        served: Running,
        catalogue_served: Running,
    ) -> None:
        for name in ("Hat", "Scarf", "Gloves"):
            await add(carts, await shelf.put(name), customer())
        async with served.counting() as own, catalogue_served.counting() as catalogues:
            await carts.GetCart(GetCartRequest(), metadata=customer())
        assert (len(own), len(catalogues)) == (1, 1)


class TestAddItem:
    async def test_a_customers_cart_shows_what_it_holds(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat = await shelf.put("Hat", price=20)
        cart = await add(carts, hat, customer(), 2)
        assert cart.user_id == str(customer.id)
        assert cart.cart_token == ""
        (item,) = cart.items
        assert (item.variant_id, item.product_id) == (hat.default_variant_id, hat.id)
        assert (item.product_name, item.product_slug, item.sku) == ("Hat", "hat", hat.sku)
        assert (item.quantity, item.unit_price, item.line_total) == (2, euros(20), euros(40))
        assert (cart.item_count, cart.subtotal) == (2, euros(40))
        assert not cart.problems
        assert await carts.GetCart(GetCartRequest(), metadata=customer()) == cart

    async def test_a_guests_first_item_answers_a_token_that_names_the_cart(
        self, carts: CartServiceStub, shelf: Shelf, owner_connection: asyncpg.Connection
    ) -> None:
        hat, scarf = await shelf.put("Hat"), await shelf.put("Scarf")
        first = await add(carts, hat, NOBODY)
        assert len(first.cart_token) >= 43
        second = await add(carts, scarf, guest(first.cart_token))
        assert second.cart_token == ""
        assert second.id == first.id
        assert quantities(second) == {"Hat": 1, "Scarf": 1}
        dump = str([tuple(row) for row in await owner_connection.fetch("SELECT * FROM cart.carts")])
        assert first.cart_token not in dump

    async def test_more_of_the_same_is_added_up(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat = await shelf.put("Hat")
        await add(carts, hat, customer(), 2)
        request = AddItemRequest(variant_id=hat.default_variant_id, quantity=3)
        cart = await carts.AddItem(request, metadata=customer())
        assert quantities(cart) == {"Hat": 5}

    @pytest.mark.parametrize("same", [True, False])
    async def test_50_parallel_adds_lose_nothing(
        self, carts: CartServiceStub, shelf: Shelf, customer: User, same: bool
    ) -> None:
        products = [await shelf.put(f"Hat {number}") for number in range(1 if same else 50)]
        await asyncio.gather(
            *(add(carts, products[number % len(products)], customer()) for number in range(50))
        )
        cart = await carts.GetCart(GetCartRequest(), metadata=customer())
        assert cart.item_count == 50
        assert len(cart.items) == len(products)

    async def test_a_repeated_key_adds_once(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat = await shelf.put("Hat")
        answers = await asyncio.gather(
            *(add(carts, hat, customer(key="add one")) for _ in range(5))
        )
        assert {answer.item_count for answer in answers} == {1}

    async def test_a_guests_repeated_key_adds_once_and_is_the_carts_own(
        self, carts: CartServiceStub, shelf: Shelf
    ) -> None:
        hat = await shelf.put("Hat")
        key = (("idempotency-key", "1"),)
        one = await add(carts, hat, key)
        two = await add(carts, hat, key)
        assert one.id != two.id
        for _ in range(2):
            cart = await add(carts, hat, (*guest(one.cart_token), *key))
        assert quantities(cart) == {"Hat": 2}
        cart = await add(carts, hat, (*guest(two.cart_token), *key))
        assert quantities(cart) == {"Hat": 2}

    async def test_what_is_out_of_stock_may_be_put_in_and_is_said(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        cart = await add(carts, await shelf.put("Hat", stock=0), customer())
        (problem,) = cart.problems
        assert (problem.kind, problem.item_id) == (CartProblem.OUT_OF_STOCK, cart.items[0].id)

    async def test_the_token_is_not_looked_at_when_signed_in(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat = await shelf.put("Hat")
        guests = await add(carts, hat, NOBODY)
        cart = await add(carts, hat, (*customer(), *guest(guests.cart_token)))
        assert cart.user_id == str(customer.id)
        assert cart.item_count == 1

    async def test_an_item_has_at_most_999_pieces(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat = await shelf.put("Hat")
        await add(carts, hat, customer(), 999)
        with refused(StatusCode.FAILED_PRECONDITION, "LIMIT_REACHED") as refusal:
            await add(carts, hat, customer())
        assert refusal[0].metadata == {"resource": "pieces", "limit": "999"}

    async def test_a_cart_has_at_most_100_items(
        self, carts: CartServiceStub, shelf: Shelf, customer: User, owner_connection: Any
    ) -> None:
        cart = await add(carts, await shelf.put("Hat"), customer())
        await owner_connection.execute(
            "INSERT INTO cart.items SELECT gen_random_uuid(), $1, gen_random_uuid(), 1, 1, 'EUR'"
            " FROM generate_series(1, 99)",
            cart.id,
        )
        with refused(StatusCode.FAILED_PRECONDITION, "LIMIT_REACHED") as refusal:
            await add(carts, await shelf.put("Scarf"), customer())
        assert refusal[0].metadata == {"resource": "items", "limit": "100"}

    async def test_a_cart_has_one_currency(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        await add(carts, await shelf.put("Hat"), customer())
        with refused(StatusCode.FAILED_PRECONDITION, "CURRENCY_MISMATCH") as refusal:
            await add(carts, await shelf.put("Scarf", currency="USD"), customer())
        assert refusal[0].metadata == {"currency_code": "EUR"}
        assert (await carts.GetCart(GetCartRequest(), metadata=customer())).item_count == 1

    @pytest.mark.parametrize("field", ["variant_id", "product_id"])
    async def test_what_does_not_exist_is_not_found(
        self, carts: CartServiceStub, customer: User, field: str
    ) -> None:
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND") as refusal:
            await carts.AddItem(
                AddItemRequest(quantity=1, **{field: str(uuid7())}), metadata=customer()
            )
        assert refusal[0].metadata["resource"] == field.removesuffix("_id")

    async def test_drafts_are_not_for_sale(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat = await shelf.put("Hat", state=Product.DRAFT)
        with refused(StatusCode.FAILED_PRECONDITION, "NOT_FOR_SALE"):
            await add(carts, hat, customer())

    async def test_a_stale_etag_aborts_and_changes_nothing(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat = await shelf.put("Hat")
        first = await add(carts, hat, customer())
        second = await add(carts, hat, customer(), etag=first.etag)
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH") as refusal:
            await add(carts, hat, customer(), etag=first.etag)
        assert refusal[0].metadata["etag"] == second.etag
        assert await carts.GetCart(GetCartRequest(), metadata=customer()) == second

    @pytest.mark.parametrize("quantity", [0, -1, 1000, 2**31 - 1])
    async def test_a_quantity_out_of_bounds_is_refused(
        self, carts: CartServiceStub, customer: User, quantity: int
    ) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            await carts.AddItem(
                AddItemRequest(product_id=str(uuid7()), quantity=quantity), metadata=customer()
            )
        assert "quantity" in refusal[0].fields

    async def test_it_takes_a_fixed_number_of_statements(
        self, carts: CartServiceStub, shelf: Shelf, customer: User, served: Running
    ) -> None:
        counts = []
        for name in ("Hat", "Scarf", "Gloves"):
            product = await shelf.put(name)
            request = AddItemRequest(variant_id=product.default_variant_id, quantity=1)
            async with served.counting() as statements:
                await carts.AddItem(request, metadata=customer())
            counts.append(len(statements))
        assert counts == [3, 2, 2]  # the first makes the cart

    async def test_what_it_answers_is_the_cart(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat, scarf = await shelf.put("Hat"), await shelf.put("Scarf")
        for key, product in enumerate((hat, scarf, hat, hat, scarf)):
            for named in ("", f"key-{key}"):
                answer = await carts.AddItem(
                    AddItemRequest(variant_id=product.default_variant_id, quantity=key + 1),
                    metadata=customer(key=named),
                )
                assert answer == await carts.GetCart(GetCartRequest(), metadata=customer())
        assert [item.quantity for item in answer.items] == [2 * (1 + 3 + 4), 2 * (2 + 5)]

    async def test_a_product_is_its_default_variant_also_beside_others_of_its_variants(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat = await shelf.put("Hat")
        request = CreateVariantRequest(product_id=hat.id, options={"size": "S"}, price=euros(1))
        small = await shelf.catalog.CreateVariant(request, metadata=shelf.staff)
        await carts.AddItem(AddItemRequest(variant_id=small.id, quantity=2), metadata=customer())
        for id in (hat.id, hat.id.upper()):
            await carts.AddItem(AddItemRequest(product_id=id, quantity=1), metadata=customer())
        cart = await carts.GetCart(GetCartRequest(), metadata=customer())
        assert {item.variant_id: item.quantity for item in cart.items} == {
            small.id: 2,
            hat.default_variant_id: 2,
        }


class TestUpdateItem:
    async def test_it_sets_the_quantity(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        cart = await add(carts, await shelf.put("Hat"), customer(), 5)
        changed = await carts.UpdateItem(
            UpdateItemRequest(id=cart.items[0].id, quantity=2, etag=cart.etag), metadata=customer()
        )
        assert quantities(changed) == {"Hat": 2}
        assert changed.etag != cart.etag

    async def test_zero_removes_the_item(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        cart = await add(carts, await shelf.put("Hat"), customer())
        changed = await carts.UpdateItem(
            UpdateItemRequest(id=cart.items[0].id, quantity=0), metadata=customer()
        )
        assert not changed.items
        assert not changed.HasField("subtotal")

    async def test_other_peoples_items_are_not_found(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat = await shelf.put("Hat")
        cart = await add(carts, hat, customer())
        stranger = User()
        guests = await add(carts, hat, NOBODY)
        await add(carts, hat, stranger())
        for metadata in (stranger(), guest(guests.cart_token), User("ADMIN")(), NOBODY):
            with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
                await carts.UpdateItem(
                    UpdateItemRequest(id=cart.items[0].id, quantity=9), metadata=metadata
                )
        assert await carts.GetCart(GetCartRequest(), metadata=customer()) == cart

    async def test_a_stale_etag_aborts(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        cart = await add(carts, await shelf.put("Hat"), customer())
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
            await carts.UpdateItem(
                UpdateItemRequest(id=cart.items[0].id, quantity=2, etag="v9"), metadata=customer()
            )

    async def test_quantity_is_the_only_field(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        cart = await add(carts, await shelf.put("Hat"), customer())
        with refused(StatusCode.INVALID_ARGUMENT, "UNKNOWN_FIELD_IN_MASK"):
            await carts.UpdateItem(
                UpdateItemRequest(
                    id=cart.items[0].id, quantity=2, update_mask=FieldMask(paths=["unit_price"])
                ),
                metadata=customer(),
            )


class TestRemoveItem:
    async def test_it_takes_the_item_out(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        await add(carts, await shelf.put("Hat"), customer())
        cart = await add(carts, await shelf.put("Scarf"), customer())
        left = await carts.RemoveItem(RemoveItemRequest(id=cart.items[0].id), metadata=customer())
        assert quantities(left) == {"Scarf": 1}
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await carts.RemoveItem(RemoveItemRequest(id=cart.items[0].id), metadata=customer())

    async def test_a_stale_etag_aborts(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        cart = await add(carts, await shelf.put("Hat"), customer())
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
            await carts.RemoveItem(
                RemoveItemRequest(id=cart.items[0].id, etag="v9"), metadata=customer()
            )


class TestClearCart:
    async def test_it_empties_the_cart_and_may_be_repeated(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        assert await carts.ClearCart(ClearCartRequest(), metadata=customer()) == Cart()
        await add(carts, await shelf.put("Hat"), customer())
        for _ in range(2):
            cart = await carts.ClearCart(ClearCartRequest(), metadata=customer())
            assert not cart.items

    async def test_a_stale_etag_aborts(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        await add(carts, await shelf.put("Hat"), customer())
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
            await carts.ClearCart(ClearCartRequest(etag="v9"), metadata=customer())

    async def test_an_unknown_token_is_not_found(self, carts: CartServiceStub) -> None:
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await carts.ClearCart(ClearCartRequest(), metadata=guest("no such token"))


class TestProblems:
    async def test_a_changed_price_is_told_with_the_former_one(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat = await shelf.put("Hat", price=20)
        await add(carts, hat, customer(), 2)
        await shelf.catalog.UpdateProduct(
            UpdateProductRequest(id=hat.id, price=euros(25)), metadata=shelf.staff
        )
        cart = await carts.GetCart(GetCartRequest(), metadata=customer())
        (problem,) = cart.problems
        assert (problem.kind, problem.former_unit_price) == (CartProblem.PRICE_CHANGED, euros(20))
        assert (cart.items[0].unit_price, cart.subtotal) == (euros(25), euros(50))

    async def test_what_is_left_is_told(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        cart = await add(carts, await shelf.put("Hat", stock=3), customer(), 5)
        (problem,) = cart.problems
        assert (problem.kind, problem.available) == (CartProblem.LOW_STOCK, 3)

    async def test_what_is_no_longer_sold_does_not_count(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat, scarf = await shelf.put("Hat"), await shelf.put("Scarf", price=7)
        await add(carts, hat, customer())
        await add(carts, scarf, customer())
        await shelf.catalog.DeleteProduct(DeleteProductRequest(id=hat.id), metadata=shelf.staff)
        cart = await carts.GetCart(GetCartRequest(), metadata=customer())
        (problem,) = cart.problems
        assert (problem.kind, problem.item_id) == (CartProblem.UNAVAILABLE, cart.items[0].id)
        assert cart.subtotal == euros(7)

    async def test_a_variant_that_is_gone_is_unavailable(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat = await shelf.put("Hat", price=20)
        await add(carts, hat, customer())
        await shelf.catalog.CreateVariant(
            CreateVariantRequest(product_id=hat.id, options={"size": "S"}, price=euros(1)),
            metadata=shelf.staff,
        )
        await shelf.catalog.DeleteVariant(
            DeleteVariantRequest(product_id=hat.id, id=hat.default_variant_id), metadata=shelf.staff
        )
        cart = await carts.GetCart(GetCartRequest(), metadata=customer())
        assert [problem.kind for problem in cart.problems] == [CartProblem.UNAVAILABLE]
        assert cart.items[0].unit_price == euros(20)


class TestMergeCart:
    async def test_quantities_are_added_up_and_capped_at_stock(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat, scarf = await shelf.put("Hat", stock=4), await shelf.put("Scarf")
        sold_out = await shelf.put("Gloves", stock=0)
        await add(carts, hat, customer(), 3)
        token = (await add(carts, hat, NOBODY, 2)).cart_token
        await add(carts, scarf, guest(token), 2)
        await add(carts, sold_out, guest(token), 2)
        merged = await carts.MergeCart(MergeCartRequest(cart_token=token), metadata=customer())
        assert quantities(merged) == {"Hat": 4, "Scarf": 2, "Gloves": 1}

    async def test_the_guests_cart_is_gone_and_merging_again_changes_nothing(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat = await shelf.put("Hat")
        token = (await add(carts, hat, NOBODY, 2)).cart_token
        request = MergeCartRequest(cart_token=token)
        merged = await carts.MergeCart(request, metadata=customer())
        assert await carts.MergeCart(request, metadata=customer()) == merged
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await carts.GetCart(GetCartRequest(), metadata=guest(token))
        stranger = await carts.MergeCart(request, metadata=User()())
        assert not stranger.items

    async def test_merging_twice_at_the_same_time_doubles_nothing(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        hat = await shelf.put("Hat")
        token = (await add(carts, hat, NOBODY, 2)).cart_token
        request = MergeCartRequest(cart_token=token)
        await asyncio.gather(*(carts.MergeCart(request, metadata=customer()) for _ in range(4)))
        cart = await carts.GetCart(GetCartRequest(), metadata=customer())
        assert quantities(cart) == {"Hat": 2}

    async def test_a_cart_that_another_call_merges_meanwhile_is_merged(
        self,
        carts: CartServiceStub,
        shelf: Shelf,
        customer: User,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        token = (await add(carts, await shelf.put("Hat"), NOBODY, 2)).cart_token
        request = MergeCartRequest(cart_token=token)
        find_guests = store.find_guests

        async def and_be_overtaken(*given: Any) -> Any:
            found = await find_guests(*given)
            monkeypatch.setattr(store, "find_guests", find_guests)
            await carts.MergeCart(request, metadata=customer())
            return found

        monkeypatch.setattr(store, "find_guests", and_be_overtaken)
        assert quantities(await carts.MergeCart(request, metadata=customer())) == {"Hat": 2}

    async def test_another_currency_is_refused_and_nothing_is_lost(
        self, carts: CartServiceStub, shelf: Shelf, customer: User
    ) -> None:
        await add(carts, await shelf.put("Hat"), customer())
        foreign = await shelf.put("Scarf", currency="USD")
        token = (await add(carts, foreign, NOBODY)).cart_token
        with refused(StatusCode.FAILED_PRECONDITION, "CURRENCY_MISMATCH"):
            await carts.MergeCart(MergeCartRequest(cart_token=token), metadata=customer())
        kept = await carts.GetCart(GetCartRequest(), metadata=guest(token))
        assert kept.subtotal == Money(currency_code="USD", units=10)

    async def test_it_is_for_customers_and_needs_a_cart(
        self, carts: CartServiceStub, customer: User
    ) -> None:
        request = MergeCartRequest(cart_token="no such token")
        with refused(StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"):
            await carts.MergeCart(request)
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await carts.MergeCart(request, metadata=customer())


class TestCleanup:
    async def test_abandoned_guest_carts_go_and_all_others_stay(
        self,
        carts: CartServiceStub,
        shelf: Shelf,
        customer: User,
        served: Running,
        owner_connection: Any,
    ) -> None:
        hat = await shelf.put("Hat")
        old, new = await add(carts, hat, NOBODY), await add(carts, hat, NOBODY)
        mine = await add(carts, hat, customer())
        await owner_connection.execute(
            "UPDATE cart.carts SET update_time = now() - interval '31 days'"
            " WHERE id = ANY ($1::uuid[])",
            [old.id, mine.id],
        )
        async with served.database.connection() as connection:
            await store.forget_abandoned(connection, timedelta(days=30))
        left = await owner_connection.fetch("SELECT id FROM cart.carts")
        assert {str(row["id"]) for row in left} == {new.id, mine.id}
