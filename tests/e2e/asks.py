"""A good request for every public method, and how to make it over REST or gRPC."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message_factory import GetMessageClass

from cli.topology import SERVICES
from services.kit.ids import uuid7
from shop.cart.v1 import (  # noqa: F401  known by name below
    cart_pb2,
    checkout_pb2,
    erasure_pb2 as cart_erasure_pb2,
)
from shop.catalog.v1 import catalog_pb2, stock_pb2  # noqa: F401  likewise
from shop.order.v1 import (  # noqa: F401  likewise
    erasure_pb2 as order_erasure_pb2,
    order_pb2,
    rate_pb2,
    settlement_pb2,
)
from shop.payment.v1 import (  # noqa: F401  likewise
    closure_pb2,
    erasure_pb2 as payment_erasure_pb2,
    payment_pb2,
)
from shop.users.v1 import directory_pb2, session_pb2, users_pb2  # noqa: F401  likewise
from tests.e2e.streams import first_event
from tests.running import refusal_of
from tests.visitors import PASSWORD, Person, Shop, Visitor, answered, euros, new_address
from tools.contract import DESCRIPTORS, Method, load

Fields = dict[str, Any]
Make = Callable[[Shop, Person], Awaitable[Fields]]

CONTRACT = load(DESCRIPTORS.read_bytes())
STARTED = [m for m in CONTRACT.methods if m.service.split(".")[1] in SERVICES]
PUBLIC = [method for method in STARTED if list(method.bindings())]
INTERNAL = [method for method in STARTED if not list(method.bindings())]

POSTAL = {"region_code": "GB", "address_lines": ["1 Byron Row"]}
# Each rate needs a country of its own. Nothing is sent to these.
_COUNTRIES = map("".join, itertools.product("OQRXYZ", string.ascii_uppercase))


async def _new_user(shop: Shop, owner: Person) -> Fields:
    return {"email": new_address(), "password": PASSWORD}


async def _the_owner(shop: Shop, owner: Person) -> Fields:
    return {"id": owner.id}


async def _of_the_owner(shop: Shop, owner: Person) -> Fields:
    return {"user_id": owner.id}


async def _the_address(shop: Shop, owner: Person) -> Fields:
    path = f"/api/users/{owner.id}/addresses/"
    address = answered(await owner.post(path, {"postal_address": POSTAL}), 201)
    return {"user_id": owner.id, "id": address["id"]}


async def _wrong_password(shop: Shop, owner: Person) -> Fields:
    return {"id": "me", "current_password": "a guess", "new_password": PASSWORD}


async def _credentials(shop: Shop, owner: Person) -> Fields:
    return {"email": owner.email, "password": PASSWORD}


async def _refresh_token(shop: Shop, owner: Person) -> Fields:
    return {"refresh_token": (await owner.again()).refresh_token}


async def _nothing(shop: Shop, owner: Person) -> Fields:
    return {}


async def _new_product(shop: Shop, owner: Person) -> Fields:
    return {"name": "A lamp", "price": euros(20)}


async def _product(shop: Shop, owner: Person) -> Fields:
    return {"id": (await shop.new_product())["id"]}


async def _new_variant(shop: Shop, owner: Person) -> Fields:
    product = await shop.new_product()
    return {"product_id": product["id"], "options": {"n": uuid7().hex}, "price": euros(20)}


async def _variant(shop: Shop, owner: Person) -> Fields:
    new = await _new_variant(shop, owner)
    path = f"/api/products/{new.pop('product_id')}/variants/"
    variant = answered(await shop.staff.post(path, new), 201)
    return {"product_id": variant["product_id"], "id": variant["id"]}


async def _stock(shop: Shop, owner: Person) -> Fields:
    return {"variant_id": (await shop.new_product())["default_variant_id"]}


async def _new_category(shop: Shop, owner: Person) -> Fields:
    return {"name": f"Shelf {uuid7().hex}"}


async def _category(shop: Shop, owner: Person) -> Fields:
    new = await _new_category(shop, owner)
    return {"id": answered(await shop.staff.post("/api/categories/", new), 201)["id"]}


async def _added(shop: Shop, owner: Person) -> Fields:
    return {"product_id": (await shop.new_product())["id"], "quantity": 1}


async def _item(shop: Shop, owner: Person) -> Fields:
    cart = answered(await owner.post("/api/cart/items/", await _added(shop, owner)))
    return {"id": cart["items"][-1]["id"]}


async def _guests_cart(shop: Shop, owner: Person) -> Fields:
    cart = answered(await shop.nobody.post("/api/cart/items/", await _added(shop, owner)))
    return {"cart_token": cart["cart_token"]}


async def _new_order(shop: Shop, owner: Person) -> Fields:
    return {"items": [await _added(shop, owner)], "shipping_address": POSTAL}


async def _order(shop: Shop, owner: Person) -> Fields:
    new = await _new_order(shop, owner)
    return {"id": answered(await owner.post("/api/orders/", new), 201)["id"]}


async def _new_payment(shop: Shop, owner: Person) -> Fields:
    order = await _order(shop, owner)
    return {"order_id": order["id"], "payment_method": "pm_card_visa"}


async def _payment(shop: Shop, owner: Person) -> Fields:
    new = await _new_payment(shop, owner)
    return {"id": answered(await owner.post("/api/payment/", new))["id"]}


async def _payments(shop: Shop, owner: Person) -> Fields:
    return {"order_id": (await _new_payment(shop, owner))["order_id"]}


async def _new_shipping_rate(shop: Shop, owner: Person) -> Fields:
    return {"region_code": next(_COUNTRIES), "price": euros(5)}


async def _new_tax_rate(shop: Shop, owner: Person) -> Fields:
    return {"region_code": next(_COUNTRIES), "rate_ppm": 190_000}


async def _shipping_rate(shop: Shop, owner: Person) -> Fields:
    new = await _new_shipping_rate(shop, owner)
    return {"id": answered(await shop.staff.post("/api/shipping-rates/", new), 201)["id"]}


async def _tax_rate(shop: Shop, owner: Person) -> Fields:
    new = await _new_tax_rate(shop, owner)
    return {"id": answered(await shop.staff.post("/api/tax-rates/", new), 201)["id"]}


def _and(make: Make, **more: Any) -> Make:
    async def made(shop: Shop, owner: Person) -> Fields:
        return await make(shop, owner) | more

    return made


REQUESTS: dict[str, Make] = {
    "shop.users.v1.UserService.CreateUser": _new_user,
    "shop.users.v1.UserService.GetUser": _the_owner,
    "shop.users.v1.UserService.ListUsers": _nothing,
    "shop.users.v1.UserService.UpdateUser": _and(_the_owner, phone="020 1234"),
    "shop.users.v1.UserService.DeleteUser": _the_owner,
    "shop.users.v1.UserService.SetUserRole": _and(_the_owner, role="CUSTOMER"),
    "shop.users.v1.UserService.SetUserDisabled": _and(_the_owner, disabled=False),
    "shop.users.v1.UserService.ChangePassword": _wrong_password,
    "shop.users.v1.UserService.GetAddress": _the_address,
    "shop.users.v1.UserService.ListAddresses": _of_the_owner,
    "shop.users.v1.UserService.CreateAddress": _and(_of_the_owner, postal_address=POSTAL),
    "shop.users.v1.UserService.UpdateAddress": _and(_the_address, phone="020 1234"),
    "shop.users.v1.UserService.DeleteAddress": _the_address,
    "shop.users.v1.AuthService.Login": _credentials,
    "shop.users.v1.AuthService.RefreshToken": _refresh_token,
    "shop.users.v1.AuthService.Logout": _nothing,
    "shop.users.v1.AuthService.RequestPasswordReset": _and(_nothing, email="x@example.com"),
    "shop.users.v1.AuthService.ConfirmPasswordReset": _and(
        _nothing, token="x", new_password=PASSWORD
    ),
    "shop.users.v1.AuthService.VerifyEmail": _and(_nothing, token="x"),
    "shop.users.v1.AuthService.GetJwks": _nothing,
    "shop.catalog.v1.CatalogService.ListProducts": _and(_nothing, page_size=1),
    "shop.catalog.v1.CatalogService.GetProduct": _product,
    "shop.catalog.v1.CatalogService.CreateProduct": _new_product,
    "shop.catalog.v1.CatalogService.UpdateProduct": _and(_product, name="Another lamp"),
    "shop.catalog.v1.CatalogService.DeleteProduct": _product,
    "shop.catalog.v1.CatalogService.CreateVariant": _new_variant,
    "shop.catalog.v1.CatalogService.UpdateVariant": _and(_variant, weight_grams=9),
    "shop.catalog.v1.CatalogService.DeleteVariant": _variant,
    "shop.catalog.v1.CatalogService.ListCategories": _and(_nothing, page_size=1),
    "shop.catalog.v1.CatalogService.GetCategory": _category,
    "shop.catalog.v1.CatalogService.CreateCategory": _new_category,
    "shop.catalog.v1.CatalogService.UpdateCategory": _and(_category, description="New"),
    "shop.catalog.v1.CatalogService.DeleteCategory": _category,
    "shop.catalog.v1.CatalogService.AdjustStock": _and(_stock, change=1, reason="RESTOCK"),
    "shop.catalog.v1.CatalogService.ListStockMovements": _stock,
    "shop.cart.v1.CartService.GetCart": _nothing,
    "shop.cart.v1.CartService.AddItem": _added,
    "shop.cart.v1.CartService.UpdateItem": _and(_item, quantity=2),
    "shop.cart.v1.CartService.RemoveItem": _item,
    "shop.cart.v1.CartService.ClearCart": _nothing,
    "shop.cart.v1.CartService.MergeCart": _guests_cart,
    "shop.order.v1.OrderService.CreateOrder": _new_order,
    "shop.order.v1.OrderService.GetOrder": _order,
    "shop.order.v1.OrderService.UpdateOrder": _and(_order, status="CANCELLED"),
    "shop.order.v1.OrderService.ListOrders": _and(_nothing, page_size=1),
    "shop.order.v1.OrderService.ListUserOrders": _of_the_owner,
    "shop.order.v1.OrderService.CancelOrder": _order,
    "shop.order.v1.OrderService.ListOrderEvents": _order,
    "shop.order.v1.OrderService.WatchOrder": _order,
    "shop.payment.v1.PaymentService.ProcessPayment": _new_payment,
    "shop.payment.v1.PaymentService.GetPayment": _payment,
    "shop.payment.v1.PaymentService.ListPayments": _payments,
    "shop.payment.v1.PaymentService.ConfirmPayment": _payment,
    "shop.payment.v1.PaymentService.RefundPayment": _payment,
    "shop.payment.v1.PaymentService.HandleStripeWebhook": _and(
        _nothing, body={"content_type": "application/json", "data": "e30="}
    ),
    "shop.order.v1.RateService.ListShippingRates": _and(_nothing, page_size=1),
    "shop.order.v1.RateService.GetShippingRate": _shipping_rate,
    "shop.order.v1.RateService.CreateShippingRate": _new_shipping_rate,
    "shop.order.v1.RateService.UpdateShippingRate": _and(_shipping_rate, price=euros(6)),
    "shop.order.v1.RateService.DeleteShippingRate": _shipping_rate,
    "shop.order.v1.RateService.ListTaxRates": _and(_nothing, page_size=1),
    "shop.order.v1.RateService.GetTaxRate": _tax_rate,
    "shop.order.v1.RateService.CreateTaxRate": _new_tax_rate,
    "shop.order.v1.RateService.UpdateTaxRate": _and(_tax_rate, rate_ppm=70_000),
    "shop.order.v1.RateService.DeleteTaxRate": _tax_rate,
}
# What somebody gets who is let in, where the request above is not quite good.
LET_IN = {
    "shop.users.v1.UserService.ChangePassword": "PASSWORD_INCORRECT",
    "shop.users.v1.AuthService.ConfirmPasswordReset": "MAIL_TOKEN_INVALID",
    "shop.users.v1.AuthService.VerifyEmail": "MAIL_TOKEN_INVALID",
    "shop.payment.v1.PaymentService.HandleStripeWebhook": "WEBHOOK_SIGNATURE_INVALID",
}


async def ask_rest(
    who: Visitor,
    binding: tuple[str, str, str],
    fields: Fields,
    *,
    slash: str = "",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """Make a request by a REST binding: fields go where the binding wants them."""
    verb, template, body = binding
    rest = dict(fields)
    path = re.sub(r"\{(\w+)\}", lambda found: str(rest.pop(found[1])), template) + slash
    if path.rstrip("/").endswith("/watch"):
        return await first_event(who, path, rest, headers)
    if body:
        return await who.call(verb.upper(), path, rest, headers=headers)
    return await who.call(verb.upper(), path, query=rest, headers=headers)


async def ask_grpc(
    channel: grpc.aio.Channel, method: Method, fields: Fields, metadata: dict[str, str]
) -> str:
    """Make a request natively; the reason of the refusal, or nothing when it was answered."""
    service, _, name = method.name.rpartition(".")
    found = descriptor_pool.Default().FindMethodByName(method.name)
    message = json_format.ParseDict(fields, GetMessageClass(found.input_type)())
    asked = message.SerializeToString()
    signed = tuple(metadata.items())
    streams = method.proto.server_streaming
    call: Any = (channel.unary_stream if streams else channel.unary_unary)(f"/{service}/{name}")
    try:
        answer = call(asked, metadata=signed, timeout=5)
        await (answer.read() if streams else answer)
        answer.cancel()
    except grpc.aio.AioRpcError as error:
        return refusal_of(error).reason
    return ""
