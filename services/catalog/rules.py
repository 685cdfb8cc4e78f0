"""What the catalogue allows: pure decisions about products, variants and categories."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from services.kit import errors
from services.kit.statements import Fields
from shop.catalog.v1 import catalog_pb2
from shop.errors.v1 import reason_pb2

MOST_VARIANTS = 100
DEEPEST_LEVEL = 10
LONGEST_SLUG = 100
# How many available pieces are few.
FEW = 5

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Price(NamedTuple):
    """An amount in minor units of a currency."""

    amount: int
    currency: str


def slug_of(name: str) -> str:
    """A slug made from a name, maybe empty: `Crème brûlée, 2 pcs.` is `creme-brulee-2-pcs`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[: LONGEST_SLUG - 9].strip("-")


def sku_of(variant_id: UUID) -> str:
    """A SKU for a variant that was given none: from the random end of its id."""
    return f"SKU-{variant_id.hex[-12:].upper()}"


def slugs(given: str, name: str, id: UUID) -> list[str]:
    """The slugs to try: the given one, or one from the name, then that with the id's end."""
    if given:
        return [given]
    made = slug_of(name)
    end = id.hex[-8:]
    return [made, f"{made}-{end}"] if made else [end]


def check_slug(slug: str) -> None:
    """Raise INVALID_ARGUMENT for a slug that could be taken for an id."""
    if _UUID.fullmatch(slug):
        raise errors.invalid_field("slug", "must not have the form of an id")


def check_not_cleared(changes: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise INVALID_ARGUMENT for fields that a mask clears although every resource needs them."""
    cleared = [name for name in names if name in changes and changes[name] in (None, "", 0)]
    if cleared:
        raise errors.invalid(
            *(
                errors.FieldViolation(
                    name, "cannot be cleared: set it, or leave it out of the mask"
                )
                for name in cleared
            )
        )


def check_currency(expected: str, given: Iterable[str]) -> None:
    """Raise FAILED_PRECONDITION when a price is not in the currency of the others."""
    if any(currency != expected for currency in given):
        raise errors.failed_precondition(
            reason_pb2.REASON_CURRENCY_MISMATCH,
            f"All prices of a product are in one currency, here {expected}.",
            currency_code=expected,
        )


def check_compare_at(price: Price, compare_at: Price | None, field: str) -> None:
    """Raise for a former price in another currency, or one that is no higher than the price."""
    if compare_at is None:
        return
    check_currency(price.currency, [compare_at.currency])
    if compare_at.amount <= price.amount:
        raise errors.invalid_field(field, "must be higher than the price")


def check_new_variants(variants: Sequence[Mapping[str, Any]]) -> None:
    """Raise when variants to be made together differ in currency, or agree in options or SKU."""
    check_currency(variants[0]["currency"], (variant["currency"] for variant in variants))
    skus: set[str] = set()
    options: set[frozenset[tuple[str, str]]] = set()
    for index, variant in enumerate(variants):
        if variant["sku"] in skus:
            raise sku_taken(f"variants[{index}].sku")
        skus.add(variant["sku"])
        chosen = frozenset(variant["options"].items())
        if chosen in options:
            raise options_taken(f"variants[{index}].options")
        options.add(chosen)


def check_room_for_variant(count: int) -> None:
    """Raise FAILED_PRECONDITION when a product with `count` variants cannot have another."""
    if count >= MOST_VARIANTS:
        raise limit_reached("variants", MOST_VARIANTS, "A product has at most 100 variants.")


def check_not_last_variant(count: int) -> None:
    """Raise FAILED_PRECONDITION when one of `count` variants cannot go."""
    if count <= 1:
        raise errors.failed_precondition(
            reason_pb2.REASON_LAST_VARIANT,
            "A product has at least one variant: delete the product instead.",
        )


def check_nothing_reserved(stock: Fields) -> None:
    """Raise FAILED_PRECONDITION when orders hold some of a variant."""
    if stock["reserved"]:
        raise stock_reserved(stock, "Orders hold some of this variant.")


def check_backorder(stock: Fields, allowed: bool) -> None:
    """Raise FAILED_PRECONDITION when backorders are to end while orders hold more than there is."""
    if not allowed and stock["reserved"] > stock["on_hand"]:
        raise stock_reserved(stock, "Orders hold more of this variant than is on hand.")


def stock_reserved(stock: Fields, message: str) -> errors.ServiceError:
    """FAILED_PRECONDITION: what is on hand is held for orders."""
    return errors.failed_precondition(
        reason_pb2.REASON_STOCK_RESERVED,
        message,
        on_hand=str(stock["on_hand"]),
        reserved=str(stock["reserved"]),
    )


def check_place(category: UUID, ancestors: list[UUID], height: int) -> None:
    """Raise FAILED_PRECONDITION when a category of `height` levels cannot stand below `ancestors`.

    `ancestors` begins with the new parent and ends at the top.
    """
    if category in ancestors:
        raise errors.failed_precondition(
            reason_pb2.REASON_CATEGORY_CYCLE, "A category cannot be below itself."
        )
    if len(ancestors) + height > DEEPEST_LEVEL:
        raise limit_reached("levels", DEEPEST_LEVEL, "Categories have at most ten levels.")


def limit_reached(resource: str, limit: int, message: str) -> errors.ServiceError:
    """FAILED_PRECONDITION: there are as many as there may be."""
    return errors.failed_precondition(
        reason_pb2.REASON_LIMIT_REACHED, message, resource=resource, limit=str(limit)
    )


def slug_taken() -> errors.ServiceError:
    """ALREADY_EXISTS for a slug."""
    return errors.already_exists(reason_pb2.REASON_SLUG_TAKEN, "slug", "Another one has this slug.")


def sku_taken(field: str) -> errors.ServiceError:
    """ALREADY_EXISTS for a SKU."""
    return errors.already_exists(
        reason_pb2.REASON_SKU_TAKEN, field, "Another variant has this SKU."
    )


def options_taken(field: str) -> errors.ServiceError:
    """ALREADY_EXISTS for the options of a variant."""
    return errors.already_exists(
        reason_pb2.REASON_OPTIONS_TAKEN,
        field,
        "Another variant of the product has the same options.",
    )


def inventory_status(
    available: int, allow_backorder: bool
) -> catalog_pb2.Variant.InventoryStatus.ValueType:
    """What shoppers are told of a variant of which `available` pieces can be ordered."""
    if available > FEW:
        return catalog_pb2.Variant.IN_STOCK
    if available > 0:
        return catalog_pb2.Variant.LOW_STOCK
    return catalog_pb2.Variant.BACKORDER if allow_backorder else catalog_pb2.Variant.OUT_OF_STOCK
