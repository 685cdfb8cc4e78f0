"""What is ordered, where to and by whom: a request, filled up by the services that know."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from google.type import postal_address_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError

from services.kit import call, clients, errors, ids
from services.kit.call import Claim
from services.kit.db import Database, Row
from services.kit.money import to_minor
from services.order import messages, rules, store
from services.order.contacts import Contacts
from shop.cart.v1 import cart_pb2, checkout_pb2, checkout_pb2_grpc
from shop.catalog.v1 import stock_pb2
from shop.errors.v1 import reason_pb2
from shop.order.v1 import order_pb2
from shop.users.v1 import users_pb2, users_pb2_grpc

Answer = TypeVar("Answer")
ME = "me"


class Basket:
    """Turns requests into orders to be written."""

    def __init__(
        self,
        database: Database,
        users: users_pb2_grpc.UserServiceStub,
        contacts: Contacts,
        carts: checkout_pb2_grpc.CheckoutServiceStub,
    ) -> None:
        self._db = database
        self._users = users
        self._contacts = contacts
        self._carts = carts

    async def draft(
        self, request: order_pb2.CreateOrderRequest, claim: Claim | None, ttl: timedelta
    ) -> dict[str, Any]:
        """The columns of a new order, whose stock is to be held for `ttl`.

        Raises CART_EMPTY, LIMIT_REACHED, RESOURCE_NOT_FOUND (the address), INVALID_ARGUMENT for an
        expected total that is no money.
        """
        expected_total, expected_currency = None, None
        if request.HasField("expected_total"):
            expected_total = to_minor(request.expected_total, "expected_total")
            expected_currency = request.expected_total.currency_code
        if request.items and request.HasField("shipping_address"):
            # Nothing to wait for together: tasks would cost more than what they do.
            email, cart = await self._contacts.email(), None
            address, phone = request.shipping_address, ""
        else:
            email, (address, phone), cart = await asyncio.gather(
                self._contacts.email(), self._destination(request), self._cart(request)
            )
        order_id = ids.uuid7()
        demand = stock_pb2.ReserveStockRequest(order_id=str(order_id))
        demand.ttl.FromTimedelta(ttl)
        for item in cart.items if cart is not None else request.items:
            demand.lines.add(
                variant_id=item.variant_id or None,
                product_id=item.product_id if not item.variant_id else None,
                quantity=item.quantity,
            )
        _check_pieces(demand)
        return {
            "id": order_id,
            "number": rules.new_number(),
            "user_id": call.user_id(),
            "email": email,
            "shipping_address": messages.address_column(address),
            "shipping_phone": request.shipping_phone or phone,
            "note": request.note,
            "cart_id": UUID(cart.id) if cart is not None else None,
            "cart_etag": cart.etag if cart is not None else "",
            "idempotency_key": claim.key if claim is not None else None,
            "fingerprint": claim.fingerprint if claim is not None else None,
            "demand": demand.SerializeToString(),
            "expected_total": expected_total,
            "expected_currency": expected_currency,
        }

    async def still_holds(self, order: Row) -> bool:
        """Whether all that a PENDING order is made of is in its cart, now that it is written.

        While it was drafted, an earlier order's pieces may have been in the cart, and have been
        taken out before it was written: until then that order would have been in its way.
        """
        if order["cart_id"] is None:
            return True
        try:
            cart = await self._carts.GetCheckoutCart(
                checkout_pb2.GetCheckoutCartRequest(user_id=str(order["user_id"]))
            )
        except AioRpcError as error:
            if error.code() is not StatusCode.NOT_FOUND:
                raise
            return False
        held = {item.variant_id: item.quantity for item in cart.items}
        demand = stock_pb2.ReserveStockRequest.FromString(order["demand"])
        return all(line.quantity <= held.get(line.variant_id, 0) for line in demand.lines)

    async def clear(self, order_id: UUID) -> None:
        """Take what a paid order holds out of the cart that it came from."""
        async with self._db.connection() as connection:
            order = await store.find(connection, order_id)
        if order is None or not rules.holds_paid_cart(order):
            return
        pieces: Counter[str] = Counter()
        for line in order["lines"]:
            pieces[line["variant_id"]] += line["quantity"]
        request = checkout_pb2.RemoveOrderedItemsRequest(
            cart_id=str(order["cart_id"]), order_id=str(order["id"])
        )
        for variant_id, quantity in pieces.items():
            request.lines.add(variant_id=variant_id, quantity=quantity)
        try:
            await self._carts.RemoveOrderedItems(request)
        except AioRpcError as error:
            if error.code() is not StatusCode.NOT_FOUND:  # gone: nothing is left in it
                raise
        async with self._db.connection() as connection:
            await store.cart_is_cleared(connection, order["id"])

    async def _destination(
        self, request: order_pb2.CreateOrderRequest
    ) -> tuple[postal_address_pb2.PostalAddress, str]:
        """Where to send it, and the telephone number that is kept with that."""
        if request.HasField("shipping_address"):
            return request.shipping_address, ""
        address = await _ask(
            self._users.GetAddress(
                users_pb2.GetAddressRequest(user_id=ME, id=request.address_id),
                metadata=clients.on_behalf_of_caller(),
            ),
            otherwise=errors.not_found("address", request.address_id),
        )
        return address.postal_address, address.phone

    async def _cart(self, request: order_pb2.CreateOrderRequest) -> cart_pb2.Cart | None:
        """The caller's cart, unless items are given."""
        if request.items:
            return None
        cart = await _ask(
            self._carts.GetCheckoutCart(
                checkout_pb2.GetCheckoutCartRequest(user_id=str(call.user_id()))
            ),
            otherwise=_cart_empty(),
        )
        if not cart.items:
            raise _cart_empty()
        return cart


async def _ask(answer: Awaitable[Answer], *, otherwise: errors.ServiceError) -> Answer:
    """What a service answers. Raises `otherwise` when it says that there is no such thing."""
    try:
        return await answer
    except AioRpcError as error:
        if error.code() is StatusCode.NOT_FOUND:
            raise otherwise from None
        raise


def _check_pieces(demand: stock_pb2.ReserveStockRequest) -> None:
    pieces: Counter[tuple[str, str]] = Counter()
    for line in demand.lines:
        pieces[line.variant_id, line.product_id] += line.quantity
    rules.check_pieces(pieces)


def _cart_empty() -> errors.ServiceError:
    return errors.failed_precondition(
        reason_pb2.REASON_CART_EMPTY, "There is nothing in the cart to order."
    )
