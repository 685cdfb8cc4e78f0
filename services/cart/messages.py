"""Rows of carts, with what the catalogue says of their variants, as messages."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from services.cart import rules
from services.kit.etags import etag
from services.kit.money import from_minor
from services.kit.statements import Fields
from services.kit.times import timestamp
from shop.cart.v1.cart_pb2 import Cart, CartItem
from shop.catalog.v1.stock_pb2 import VariantSnapshot

Variants = Mapping[UUID, VariantSnapshot]


def cart(row: Fields, variants: Variants, token: str = "") -> Cart:
    """A row of `store.CART`; `token` is shown to the guest for whom the cart was just made."""
    message = Cart(
        id=str(row["id"]),
        user_id="" if row["user_id"] is None else str(row["user_id"]),
        item_count=sum(item["quantity"] for item in row["items"]),
        cart_token=token,
        create_time=timestamp(row["create_time"]),
        update_time=timestamp(row["update_time"]),
        etag=etag(row),
    )
    subtotal = 0
    for item in row["items"]:
        variant = variants.get(UUID(item["variant_id"]))
        message.problems.extend(rules.problems(item, variant))
        if variant is None:
            message.items.append(_gone(item))
            continue
        amount, currency = rules.price_of(variant)
        message.items.append(_item(item, variant, amount * item["quantity"], currency))
        if rules.is_for_sale(variant):
            subtotal += amount * item["quantity"]
    if row["items"]:
        message.subtotal.CopyFrom(from_minor(subtotal, row["items"][0]["currency"]))
    return message


def _item(item: Fields, variant: VariantSnapshot, total: int, currency: str) -> CartItem:
    return CartItem(
        id=item["id"],
        variant_id=variant.id,
        product_id=variant.product_id,
        product_name=variant.product_name,
        product_slug=variant.product_slug,
        sku=variant.sku,
        options=variant.options,
        image_url=variant.media.url,
        quantity=item["quantity"],
        unit_price=variant.price,
        line_total=from_minor(total, currency),
    )


def _gone(item: Fields) -> CartItem:
    """An item whose variant no longer exists: all that is known is what it cost."""
    price, currency = item["unit_price"], item["currency"]
    return CartItem(
        id=item["id"],
        variant_id=item["variant_id"],
        quantity=item["quantity"],
        unit_price=from_minor(price, currency),
        line_total=from_minor(price * item["quantity"], currency),
    )
