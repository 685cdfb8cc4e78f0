"""Rows of the catalogue as messages, and fields of requests as columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from google.type import money_pb2

from services.catalog import rules
from services.catalog.rules import Price
from services.kit.etags import etag
from services.kit.ids import uuid7
from services.kit.money import from_minor, to_minor
from services.kit.statements import Fields
from services.kit.times import from_micros, timestamp
from shop.catalog.v1 import catalog_pb2


def product(row: Fields, *, staff: bool) -> catalog_pb2.Product:
    """A row of `store.PRODUCT`. Only `staff` sees what is on hand and reserved."""
    product_id = str(row["id"])
    first = str(row["default_variant_id"])
    items = sorted(row["variants"], key=lambda item: (item["id"] != first, item["id"]))
    variants = [_variant(item, product_id, staff=staff) for item in items]
    default = variants[0]
    message = catalog_pb2.Product(
        id=product_id,
        slug=row["slug"],
        name=row["name"],
        description=row["description"],
        state=row["state"],
        category_ids=[str(id) for id in row["category_ids"]],
        attributes=row["attributes"],
        media=[catalog_pb2.Media(**item) for item in row["media"]],
        variants=variants,
        default_variant_id=default.id,
        sku=default.sku,
        price=default.price,
        available=default.available,
        inventory_status=min(variant.inventory_status for variant in variants),
        create_time=timestamp(row["create_time"]),
        update_time=timestamp(row["update_time"]),
        etag=etag(row),
    )
    if default.HasField("compare_at_price"):
        message.compare_at_price.CopyFrom(default.compare_at_price)
    return message


def variant(row: Fields) -> catalog_pb2.Variant:
    """A row of `store.VARIANT`, for staff."""
    return _variant(row["variant"], str(row["product_id"]), staff=True)


def _variant(item: Fields, product_id: str, *, staff: bool) -> catalog_pb2.Variant:
    on_hand, reserved, backorder = item["on_hand"], item["reserved"], item["allow_backorder"]
    available = max(on_hand - reserved, 0)
    message = catalog_pb2.Variant(
        id=item["id"],
        product_id=product_id,
        sku=item["sku"],
        options=item["options"],
        price=from_minor(item["price"], item["currency"]),
        weight_grams=item["weight_grams"],
        allow_backorder=backorder,
        available=available,
        inventory_status=rules.inventory_status(available, backorder),
        create_time=from_micros(item["create_micros"]),
        update_time=from_micros(item["update_micros"]),
        etag=etag(item),
    )
    if item["compare_at_price"] is not None:
        message.compare_at_price.CopyFrom(from_minor(item["compare_at_price"], item["currency"]))
    if staff:
        message.on_hand = on_hand
        message.reserved = reserved
    return message


def category(row: Fields) -> catalog_pb2.Category:
    """A row of the table of categories."""
    return catalog_pb2.Category(
        id=str(row["id"]),
        slug=row["slug"],
        name=row["name"],
        description=row["description"],
        parent_id="" if row["parent_id"] is None else str(row["parent_id"]),
        create_time=timestamp(row["create_time"]),
        update_time=timestamp(row["update_time"]),
        etag=etag(row),
    )


def product_columns(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the table of products that `fields` (name to value in the request) set."""
    columns = {
        name: fields[name] for name in ("name", "slug", "description", "state") if name in fields
    }
    if "category_ids" in fields:
        columns["category_ids"] = sorted({UUID(id) for id in fields["category_ids"]})
    if "attributes" in fields:
        columns["attributes"] = dict(fields["attributes"])
    if "media" in fields:
        columns["media"] = [{"url": item.url, "alt": item.alt} for item in fields["media"]]
    return columns


def variant_columns(fields: Mapping[str, Any], before: Fields) -> dict[str, Any]:
    """The columns of the table of variants that `fields` set; `before` is the variant's row.

    Raises INVALID_ARGUMENT or FAILED_PRECONDITION for prices that do not fit each other.
    """
    columns = {name: fields[name] for name in ("sku", "weight_grams") if name in fields}
    if "options" in fields:
        columns["options"] = dict(fields["options"])
    price = Price(before["price"], before["currency"])
    if "price" in fields:
        price = _price(fields["price"], "price")
        columns |= {"price": price.amount, "currency": price.currency}
    if "compare_at_price" in fields:
        given = fields["compare_at_price"]
        compare_at = None if given is None else _price(given, "compare_at_price")
        columns["compare_at_price"] = None if compare_at is None else compare_at.amount
    elif before["compare_at_price"] is None:
        compare_at = None
    else:
        compare_at = Price(before["compare_at_price"], before["currency"])
    if fields.keys() & {"price", "compare_at_price"}:
        rules.check_compare_at(price, compare_at, "compare_at_price")
    return columns


def new_variants(
    request: catalog_pb2.CreateProductRequest, product_id: UUID
) -> list[dict[str, Any]]:
    """The variants of a new product as rows, the default first. Raises for prices that clash."""
    if not request.variants:
        return [new_variant(request, product_id, "")]
    return [
        new_variant(item, product_id, f"variants[{index}].")
        for index, item in enumerate(request.variants)
    ]


def new_variant(request: Any, product_id: UUID, path: str) -> dict[str, Any]:
    """A new variant as a row of the tables of variants and stock.

    `request` is a NewVariant, a CreateVariantRequest, or a CreateProductRequest without variants,
    which has neither options nor weight.
    """
    id = uuid7()
    price = _price(request.price, f"{path}price")
    compare_at = None
    if request.HasField("compare_at_price"):
        compare_at = _price(request.compare_at_price, f"{path}compare_at_price")
    rules.check_compare_at(price, compare_at, f"{path}compare_at_price")
    return {
        "id": id,
        "product_id": product_id,
        "sku": request.sku or rules.sku_of(id),
        "options": dict(getattr(request, "options", {})),
        "price": price.amount,
        "currency": price.currency,
        "compare_at_price": None if compare_at is None else compare_at.amount,
        "weight_grams": getattr(request, "weight_grams", 0),
        "allow_backorder": getattr(request, "allow_backorder", False),
        "on_hand": request.stock,
    }


def _price(money: money_pb2.Money, field: str) -> Price:
    return Price(to_minor(money, field), money.currency_code)
