"""What carts allow and complain about: pure decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from services.kit import errors
from services.kit.money import from_minor, to_minor
from services.kit.statements import Fields
from shop.cart.v1.cart_pb2 import CartProblem
from shop.catalog.v1.catalog_pb2 import Product
from shop.catalog.v1.stock_pb2 import VariantSnapshot
from shop.errors.v1 import reason_pb2

MOST_ITEMS = 100
MOST_PIECES = 999


def is_for_sale(variant: VariantSnapshot | None) -> bool:
    """Whether a variant can be bought at all; None is one that is gone."""
    return variant is not None and variant.product_state == Product.ACTIVE


def check_for_sale(variant: VariantSnapshot) -> None:
    """Raise FAILED_PRECONDITION for a variant whose product is not sold."""
    if not is_for_sale(variant):
        raise errors.failed_precondition(
            reason_pb2.REASON_NOT_FOR_SALE,
            "This product is not for sale.",
            variant_id=variant.id,
        )


def check_one_currency(items: Iterable[Fields], expected: str) -> None:
    """Raise FAILED_PRECONDITION when items are priced in another currency than `expected`."""
    for item in items:
        if item["currency"] != expected:
            raise errors.failed_precondition(
                reason_pb2.REASON_CURRENCY_MISMATCH,
                f"All items of a cart are in one currency, here {item['currency']}.",
                currency_code=item["currency"],
            )


def check_item_count(count: int) -> None:
    """Raise FAILED_PRECONDITION for more items than a cart may have."""
    if count > MOST_ITEMS:
        raise limit_reached("items", MOST_ITEMS, f"A cart has at most {MOST_ITEMS} items.")


def too_many_pieces() -> errors.ServiceError:
    """FAILED_PRECONDITION: more pieces of one variant than an item may have."""
    return limit_reached("pieces", MOST_PIECES, f"An item has at most {MOST_PIECES} pieces.")


def limit_reached(resource: str, limit: int, message: str) -> errors.ServiceError:
    """FAILED_PRECONDITION: there are as many as there may be."""
    return errors.failed_precondition(
        reason_pb2.REASON_LIMIT_REACHED, message, resource=resource, limit=str(limit)
    )


def with_pieces(
    items: Iterable[Mapping[str, Any]],
    id: UUID,
    variant_id: UUID,
    quantity: int,
    price: tuple[int, str],
) -> list[Mapping[str, Any]]:
    """A cart's items once pieces of a variant are put in; `id` is that of a new item.

    Raises FAILED_PRECONDITION for more than a cart holds, and for a second currency.
    """
    by_variant = {item["variant_id"]: item for item in items}
    own = by_variant.get(str(variant_id), {"id": str(id), "variant_id": str(variant_id)})
    together = own.get("quantity", 0) + quantity
    if together > MOST_PIECES:
        raise too_many_pieces()
    by_variant[str(variant_id)] = {
        **own,
        "quantity": together,
        "unit_price": price[0],
        "currency": price[1],
    }
    check_item_count(len(by_variant))
    check_one_currency(by_variant.values(), price[1])
    return list(by_variant.values())


def merged_quantity(own: int, guests: int, variant: VariantSnapshot | None) -> int:
    """Pieces after a merge: both together, capped at what is available and at what an item holds.

    Nothing is lost by it: what the customer had stays, and of what is sold out one piece does.
    """
    together = min(own + guests, MOST_PIECES)
    if variant is None or variant.allow_backorder:
        return together
    return max(own, min(together, max(variant.available, 1)))


def problems(item: Fields, variant: VariantSnapshot | None) -> list[CartProblem]:
    """What the customer should know of an item; `item` has id, quantity, unit_price, currency."""
    id = str(item["id"])
    if variant is None or not is_for_sale(variant):
        return [CartProblem(item_id=id, kind=CartProblem.UNAVAILABLE)]
    found = []
    then = from_minor(item["unit_price"], item["currency"])
    if variant.price != then:
        found.append(
            CartProblem(item_id=id, kind=CartProblem.PRICE_CHANGED, former_unit_price=then)
        )
    if variant.available < item["quantity"] and not variant.allow_backorder:
        kind = CartProblem.LOW_STOCK if variant.available else CartProblem.OUT_OF_STOCK
        found.append(CartProblem(item_id=id, kind=kind, available=variant.available))
    return found


def price_of(variant: VariantSnapshot) -> tuple[int, str]:
    """What one piece costs now: minor units and currency."""
    return to_minor(variant.price, "price"), variant.price.currency_code


def variant_ids(items: Iterable[Fields]) -> set[UUID]:
    """The variants that items are of."""
    return {UUID(str(item["variant_id"])) for item in items}
