"""What other services ask of carts."""

from __future__ import annotations

import asyncio

import asyncpg
from grpc import StatusCode

from services.kit.ids import uuid7
from shop.cart.v1.cart_pb2 import AddItemRequest, Cart, GetCartRequest
from shop.cart.v1.cart_pb2_grpc import CartServiceStub
from shop.cart.v1.checkout_pb2 import GetCheckoutCartRequest, RemoveOrderedItemsRequest
from shop.cart.v1.checkout_pb2_grpc import CheckoutServiceStub
from shop.cart.v1.erasure_pb2 import EraseUserRequest
from shop.cart.v1.erasure_pb2_grpc import ErasureServiceStub
from tests import callers
from tests.callers import User
from tests.cart.conftest import Shelf
from tests.running import Running, refused

Line = RemoveOrderedItemsRequest.Line


async def filled(carts: CartServiceStub, shelf: Shelf, customer: User) -> Cart:
    """A cart with five hats and two scarves."""
    for name, quantity in (("Hat", 5), ("Scarf", 2)):
        product = await shelf.put(name)
        cart = await carts.AddItem(
            AddItemRequest(product_id=product.id, quantity=quantity), metadata=customer()
        )
    return cart


class TestGetCheckoutCart:
    async def test_it_answers_a_customers_cart(
        self, carts: CartServiceStub, checkout: CheckoutServiceStub, shelf: Shelf, customer: User
    ) -> None:
        cart = await filled(carts, shelf, customer)
        request = GetCheckoutCartRequest(user_id=str(customer.id))
        assert await checkout.GetCheckoutCart(request, metadata=callers.service()) == cart

    async def test_a_customer_without_a_cart_is_not_found(
        self, checkout: CheckoutServiceStub
    ) -> None:
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await checkout.GetCheckoutCart(
                GetCheckoutCartRequest(user_id=str(uuid7())), metadata=callers.service()
            )

    async def test_it_is_for_services(self, checkout: CheckoutServiceStub) -> None:
        with refused(StatusCode.UNAUTHENTICATED, "SERVICE_CREDENTIAL_INVALID"):
            await checkout.GetCheckoutCart(
                GetCheckoutCartRequest(user_id=str(uuid7())), metadata=User("ADMIN")()
            )


class TestRemoveOrderedItems:
    async def test_what_was_put_in_since_stays_and_repeating_changes_nothing(
        self, carts: CartServiceStub, checkout: CheckoutServiceStub, shelf: Shelf, customer: User
    ) -> None:
        cart = await filled(carts, shelf, customer)
        hat, scarf = cart.items
        request = RemoveOrderedItemsRequest(
            cart_id=cart.id,
            order_id=str(uuid7()),
            lines=[
                Line(variant_id=hat.variant_id, quantity=3),
                Line(variant_id=scarf.variant_id, quantity=2),
                Line(variant_id=str(uuid7()), quantity=1),
            ],
        )
        await asyncio.gather(
            *(checkout.RemoveOrderedItems(request, metadata=callers.service()) for _ in range(5))
        )
        left = await carts.GetCart(GetCartRequest(), metadata=customer())
        assert [(item.product_name, item.quantity) for item in left.items] == [("Hat", 2)]

    async def test_a_cart_that_never_was_is_not_found(self, checkout: CheckoutServiceStub) -> None:
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await checkout.RemoveOrderedItems(
                RemoveOrderedItemsRequest(
                    cart_id=str(uuid7()),
                    order_id=str(uuid7()),
                    lines=[Line(variant_id=str(uuid7()), quantity=1)],
                ),
                metadata=callers.service(),
            )


class TestEraseUser:
    async def test_the_cart_is_gone_and_nobody_elses(
        self,
        served: Running,
        carts: CartServiceStub,
        shelf: Shelf,
        customer: User,
        owner_connection: asyncpg.Connection,
    ) -> None:
        other, product = User(), await shelf.put("Cap")
        for who in (customer, other):
            request = AddItemRequest(product_id=product.id, quantity=1)
            await carts.AddItem(request, metadata=who(key="k"))
        for _ in range(2):
            await ErasureServiceStub(served.channel).EraseUser(
                EraseUserRequest(user_id=str(customer.id)), metadata=callers.service("users")
            )
            assert not (await carts.GetCart(GetCartRequest(), metadata=customer())).items
            for table in ("carts", "items", "idempotency_keys"):
                assert await owner_connection.fetchval(f"SELECT count(*) FROM cart.{table}") == 1
        assert (await carts.GetCart(GetCartRequest(), metadata=other())).item_count == 1
