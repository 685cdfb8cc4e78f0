"""Examples: requests that work as they stand in a shop with the demo products, and answers.

Ids of the demo's products are the same in every shop (`cli.catalogue.demo_items`). What else has to
be named, an order or a payment, has an id that nothing has: put in the one you were answered.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2

from tools.contract import Contract, Field

Example = dict[str, Any]

PRODUCT = "0199a000-0000-7000-8000-000000010000"
VARIANT = "0199a000-0000-7000-8000-000000010001"
SLUG = "harbour-stoneware-mug"
CATEGORY = "0199a3c1-5d21-7c44-9a6e-2f4b8c1d7e90"
USER = "0199a3c2-0b5e-7d10-8f3a-6c9e1b2d4f57"
ADDRESS = "0199a3c2-4c77-7a02-b1d9-0e5f3a8c6b24"
ITEM = "0199a3c3-1f90-7e83-a4c7-5b2d9e0f1a36"
ORDER = "0199a3c4-7a12-7b95-8e20-d3f6a1c4b789"
PAYMENT = "0199a3c5-2e64-7f08-93b5-7a0c8d1e2f43"
RATE = "0199a3c6-6b38-7c71-a0f4-1d8e5b3c9a02"
OTHER = "0199a3c7-0d4f-7913-8c6b-e2a7f5d01b68"
EMAIL = "ada@example.com"
PASSWORD = "correct horse battery"  # noqa: S105 - everybody's example
PHONE = "+49 30 1234567"
TIME = "2026-11-28T09:30:00Z"
ETAG = "3f2a9c41d0b7e865"
POSTAL = {
    "region_code": "DE",
    "postal_code": "10115",
    "locality": "Berlin",
    "address_lines": ["Hauptstraße 1"],
    "recipients": ["Ada Lovelace"],
}


def dollars(units: int, cents: int = 0) -> Example:
    """An amount as Envoy prints it."""
    return {"currency_code": "USD", "units": str(units), "nanos": cents * 10_000_000}


# Bodies of requests, by method; several have a name each.
REQUESTS: dict[str, dict[str, Example]] = {
    "CreateUser": {
        "Ada": {"email": EMAIL, "password": PASSWORD, "full_name": "Ada Lovelace", "phone": PHONE}
    },
    "UpdateUser": {"A new name": {"full_name": "Ada King"}},
    "SetUserRole": {"Make them staff": {"role": "STAFF"}},
    "SetUserDisabled": {"Shut them out": {"disabled": True}},
    "ChangePassword": {
        "Change": {"current_password": PASSWORD, "new_password": "battery staple horse"}
    },
    "CreateAddress": {"Berlin": {"postal_address": POSTAL, "phone": PHONE}},
    "UpdateAddress": {"Another number": {"phone": "+49 30 7654321"}},
    "Login": {"Ada": {"email": EMAIL, "password": PASSWORD}},
    "RefreshToken": {"Refresh": {"refresh_token": "the refresh_token that Login answered"}},
    "Logout": {"This session": {"all_sessions": False}},
    "RequestPasswordReset": {"Ada": {"email": EMAIL}},
    "ConfirmPasswordReset": {
        "Confirm": {"token": "the token from the mail", "new_password": PASSWORD}
    },
    "VerifyEmail": {"Verify": {"token": "the token from the mail"}},
    "CreateProduct": {
        "A lamp": {
            "name": "Brass reading lamp",
            "description": "Turns where the page is.",
            "attributes": {"material": "brass"},
            "price": dollars(89, 50),
            "stock": 25,
        },
        "With variants": {
            "name": "Linen apron",
            "variants": [
                {"options": {"size": "M"}, "price": dollars(42), "stock": 10},
                {"options": {"size": "L"}, "price": dollars(44), "stock": 5},
            ],
        },
    },
    "UpdateProduct": {"A new price": {"price": dollars(19)}},
    "CreateVariant": {
        "Plum": {"options": {"colour": "plum"}, "price": dollars(18, 50), "stock": 10}
    },
    "UpdateVariant": {"Its weight": {"weight_grams": 380}},
    "CreateCategory": {"A shelf": {"name": "Picnic", "description": "For the meadow."}},
    "UpdateCategory": {"A description": {"description": "What a cup of coffee needs."}},
    "AdjustStock": {
        "Goods came in": {"change": 10, "reason": "RESTOCK", "note": "Delivery 4711"},
        "A count": {"set": {"on_hand": 38, "expected_on_hand": 40}, "reason": "CORRECTION"},
    },
    "AddItem": {"Two mugs": {"product_id": PRODUCT, "quantity": 2}},
    "UpdateItem": {"Three": {"quantity": 3}},
    "MergeCart": {"Merge": {"cart_token": "the cart_token that AddItem answered"}},
    "CreateOrder": {
        "These items": {
            "items": [{"product_id": PRODUCT, "quantity": 1}],
            "shipping_address": POSTAL,
        },
        "What is in the cart": {"shipping_address": POSTAL, "note": "Ring twice."},
    },
    "UpdateOrder": {
        "Pack it": {"status": "FULFILLING", "note": "On the bench."},
        "Send it": {
            "status": "SHIPPED",
            "tracking": {"carrier": "DHL", "number": "00340434161094042557"},
        },
    },
    "CancelOrder": {"Cancel": {"note": "Changed my mind."}},
    "ProcessPayment": {
        "A card that works": {"order_id": ORDER, "payment_method": "pm_card_visa"},
        "A card that is declined": {
            "order_id": ORDER,
            "payment_method": "pm_card_chargeDeclined",
        },
    },
    "ConfirmPayment": {"Confirm": {}},
    "RefundPayment": {
        "Part of it": {"amount": dollars(5), "reason": "REQUESTED_BY_CUSTOMER"},
        "All of it": {},
    },
    "HandleStripeWebhook": {
        "An event": {"id": "evt_1", "object": "event", "type": "payment_intent.succeeded"}
    },
    "CreateShippingRate": {
        "New Zealand": {"region_code": "NZ", "price": dollars(12), "free_over": dollars(100)}
    },
    "UpdateShippingRate": {"A new price": {"price": dollars(9, 90)}},
    "CreateTaxRate": {"New Zealand": {"region_code": "NZ", "rate_ppm": 150_000, "included": True}},
    "UpdateTaxRate": {"A new rate": {"rate_ppm": 190_000}},
}

# Parameters in path and query: by method and field, then by what the path names, then by field.
PARAMETERS: dict[str, Any] = {
    "GetProduct.id": SLUG,
    "GetCategory.id": "coffee-and-tea",
    "SetUserRole.id": USER,
    "SetUserDisabled.id": USER,
    "users": "me",
    "products": PRODUCT,
    "variants": VARIANT,
    "categories": CATEGORY,
    "addresses": ADDRESS,
    "items": ITEM,
    "orders": ORDER,
    "user": "me",
    "payment": PAYMENT,
    "shipping-rates": RATE,
    "tax-rates": RATE,
    "order_id": ORDER,
    "page_size": 3,
}

# What is in answers, by message and field, then by field.
_ANSWERS: dict[str, Any] = {
    "Product.id": PRODUCT,
    "Product.slug": SLUG,
    "Product.name": "Harbour stoneware mug",
    "Product.description": "Thick-walled, holds 350 ml and warmth.",
    "Product.state": "ACTIVE",
    "Product.attributes": {"material": "stoneware", "capacity": "350 ml"},
    "Variant.id": VARIANT,
    "Media.url": f"https://images.example.com/{SLUG}.jpg",
    "Media.alt": "Harbour stoneware mug",
    "Category.id": CATEGORY,
    "Category.slug": "coffee-and-tea",
    "Category.name": "Coffee and tea",
    "Category.description": "What a cup of coffee needs.",
    "Category.parent_id": "",
    "User.id": USER,
    "Address.id": ADDRESS,
    "CartItem.id": ITEM,
    "Cart.id": OTHER,
    "Cart.problems": [],
    "Cart.item_count": 2,
    "CartProblem.item_id": ITEM,
    "Order.id": ORDER,
    "Order.status": "AWAITING_PAYMENT",
    "Order.note": "Ring twice.",
    "Order.payment_id": "",
    "Order.cart_id": "",
    "Order.tracking": None,
    "Payment.id": PAYMENT,
    "Payment.status": "SUCCEEDED",
    "Payment.failure": None,
    "Payment.refunds": [],
    "Payment.disputes": [],
    "Refund.status": "SUCCEEDED",
    "StockMovement.reason": "RESTOCK",
    "StockMovement.change": 10,
    "StockMovement.on_hand": 50,
    "StockMovement.note": "Delivery 4711",
    "StockMovement.order_id": "",
    "OrderEvent.sequence": 2,
    "OrderEvent.from_status": "AWAITING_PAYMENT",
    "OrderEvent.to_status": "PAID",
    "OrderEvent.actor": "SYSTEM",
    "OrderEvent.user_id": "",
    "OrderEvent.note": "",
    "ShippingRate.id": RATE,
    "TaxRate.id": RATE,
    "Money.currency_code": "USD",
    "Money.units": "18",
    "Money.nanos": 500_000_000,
    "PostalAddress.address_lines": POSTAL["address_lines"],
    "PostalAddress.recipients": POSTAL["recipients"],
    "PostalAddress.postal_code": POSTAL["postal_code"],
    "PostalAddress.locality": POSTAL["locality"],
    "PostalAddress.region_code": POSTAL["region_code"],
    "PostalAddress.revision": 0,
    "PostalAddress.language_code": "",
    "PostalAddress.sorting_code": "",
    "PostalAddress.administrative_area": "",
    "PostalAddress.sublocality": "",
    "PostalAddress.organization": "",
    "JsonWebKey.kty": "EC",
    "JsonWebKey.crv": "P-256",
    "JsonWebKey.x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "JsonWebKey.y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "JsonWebKey.kid": "2026-11",
    "JsonWebKey.use": "sig",
    "JsonWebKey.alg": "ES256",
    "access_token": "eyJhbGciOiJFUzI1NiIsImtpZCI6IjIwMjYtMTEifQ.e30.c2lnbmF0dXJl",
    "refresh_token": "QmFzZTY0IG9mIDI1NiByYW5kb20gYml0cw",
    "token_type": "Bearer",
    "expires_in": 600,
    "available": 40,
    "on_hand": 40,
    "reserved": 0,
    "quantity": 2,
    "weight_grams": 380,
    "rate_ppm": 190_000,
    "sku": "HARBOUR-STONEWARE-MUG-NAVY",
    "options": {"colour": "navy"},
    "product_id": PRODUCT,
    "product_name": "Harbour stoneware mug",
    "product_slug": SLUG,
    "image_url": f"https://images.example.com/{SLUG}.jpg",
    "variant_id": VARIANT,
    "default_variant_id": VARIANT,
    "category_ids": [CATEGORY],
    "user_id": USER,
    "order_id": ORDER,
    "payment_id": PAYMENT,
    "number": "10042",
    "email": EMAIL,
    "full_name": "Ada Lovelace",
    "phone": PHONE,
    "shipping_phone": PHONE,
    "region_code": "DE",
    "card_brand": "visa",
    "card_last4": "4242",
    "client_secret": "",
    "redirect_url": "",
    "cart_token": "",
    "note": "",
    "next_page_token": "",
    "etag": ETAG,
}

# Values of `ErrorInfo.metadata`.
METADATA: dict[str, str] = {
    "resource": "order",
    "id": ORDER,
    "field": "email",
    "role": "STAFF",
    "method": "/shop.catalog.v1.CatalogService/GetProduct",
    "etag": ETAG,
    "limit": "100",
    "dependency": "catalog",
    "currency_code": "USD",
    "variant_id": VARIANT,
    "requested": "5",
    "available": "3",
    "on_hand": "40",
    "reserved": "2",
    "order_id": ORDER,
    "units": "18",
    "nanos": "500000000",
    "from": "SHIPPED",
    "to": "CANCELLED",
    "allowed": "DELIVERED",
    "region_code": "AQ",
    "status": "CANCELLED",
    "payment_id": PAYMENT,
    "decline_code": "generic_decline",
}

_TIMESTAMP = "google.protobuf.Timestamp"


def parameter(method: str, path: str, name: str) -> Any:
    """Example of a parameter in a path or query; None for those better left empty."""
    if f"{method}.{name}" in PARAMETERS:
        return PARAMETERS[f"{method}.{name}"]
    before, found, _ = path.partition(f"/{{{name}}}")
    if found:
        return PARAMETERS[before.rpartition("/")[2]]
    return PARAMETERS.get(name)


def answer(contract: Contract, name: str) -> Example:
    """An answer: a message as Envoy prints it, with a value in every field that can have one."""
    message = contract.messages[name]
    short = name.rpartition(".")[2]
    found: Example = {}
    chosen: set[int] = set()
    for entry in message.field:
        if entry.HasField("oneof_index") and not entry.proto3_optional:
            if entry.oneof_index in chosen:
                continue
            chosen.add(entry.oneof_index)
        value = _value(contract, short, entry)
        if value is not None:
            found[entry.name] = value
    return found


def _value(contract: Contract, message: str, entry: Field) -> Any:
    for key in (f"{message}.{entry.name}", entry.name):
        if key in _ANSWERS:
            return _ANSWERS[key]
    value = _one(contract, entry)
    return [value] if entry.label == Field.LABEL_REPEATED else value


def _one(contract: Contract, entry: Field) -> Any:
    name = entry.type_name.lstrip(".")
    match entry.type:
        case Field.TYPE_MESSAGE:
            return TIME if name == _TIMESTAMP else answer(contract, name)
        case Field.TYPE_ENUM:
            enum: descriptor_pb2.EnumDescriptorProto = contract.enums[name]
            return enum.value[1].name
        case Field.TYPE_BOOL:
            return False
        case Field.TYPE_INT32:
            return 1
        case Field.TYPE_INT64:
            return "1"
        case _:
            return OTHER if entry.name.endswith("id") else entry.name.replace("_", " ")
