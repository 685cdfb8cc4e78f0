"""Rows of orders, history and rates as messages, and addresses as they are stored."""

from __future__ import annotations

from typing import Any

from google.type import postal_address_pb2

from services.kit.etags import etag
from services.kit.money import from_minor
from services.kit.statements import Fields
from services.kit.times import timestamp
from shop.order.v1 import order_pb2, rate_pb2

AMOUNTS = (
    "subtotal",
    "shipping_total",
    "tax_total",
    "discount_total",
    "total",
    "refunded_total",
)


def order(row: Fields) -> order_pb2.Order:
    """A row of orders with its lines; amounts are absent until it is placed."""
    currency = row["currency"]
    message = order_pb2.Order(
        id=str(row["id"]),
        number=row["number"],
        user_id=str(row["user_id"]),
        email=row["email"],
        status=row["status"],
        lines=[_line(line, currency) for line in row["lines"]],
        tax_included=row["tax_included"],
        shipping_address=postal_address_pb2.PostalAddress(**row["shipping_address"]),
        shipping_phone=row["shipping_phone"],
        note=row["note"],
        payment_id=_id(row["payment_id"]),
        cart_id=_id(row["cart_id"]),
        create_time=timestamp(row["create_time"]),
        update_time=timestamp(row["update_time"]),
        etag=etag(row),
    )
    if currency is not None:
        for name in AMOUNTS:
            getattr(message, name).CopyFrom(from_minor(row[name], currency))
    if row["tracking"] is not None:
        message.tracking.CopyFrom(order_pb2.Order.Tracking(**row["tracking"]))
    if row["expire_time"] is not None:
        message.expire_time.CopyFrom(timestamp(row["expire_time"]))
    return message


def _line(line: Fields, currency: str) -> order_pb2.OrderLine:
    return order_pb2.OrderLine(
        id=line["id"],
        variant_id=line["variant_id"],
        product_id=line["product_id"],
        product_name=line["product_name"],
        sku=line["sku"],
        options=line["options"],
        quantity=line["quantity"],
        unit_price=from_minor(line["unit_price"], currency),
        line_total=from_minor(line["unit_price"] * line["quantity"], currency),
    )


def event(row: Fields) -> order_pb2.OrderEvent:
    """A row of the history."""
    return order_pb2.OrderEvent(
        sequence=row["sequence"],
        from_status=row["from_status"],
        to_status=row["to_status"],
        actor=row["actor"],
        user_id=_id(row["user_id"]),
        note=row["note"],
        create_time=timestamp(row["create_time"]),
    )


def shipping_rate(row: Fields) -> rate_pb2.ShippingRate:
    """A row of shipping rates."""
    message = rate_pb2.ShippingRate(
        id=str(row["id"]),
        region_code=row["region_code"],
        price=from_minor(row["price"], row["currency"]),
        create_time=timestamp(row["create_time"]),
        update_time=timestamp(row["update_time"]),
        etag=etag(row),
    )
    if row["free_over"] is not None:
        message.free_over.CopyFrom(from_minor(row["free_over"], row["currency"]))
    return message


def tax_rate(row: Fields) -> rate_pb2.TaxRate:
    """A row of tax rates."""
    return rate_pb2.TaxRate(
        id=str(row["id"]),
        region_code=row["region_code"],
        rate_ppm=row["rate_ppm"],
        included=row["included"],
        create_time=timestamp(row["create_time"]),
        update_time=timestamp(row["update_time"]),
        etag=etag(row),
    )


def address_column(address: postal_address_pb2.PostalAddress) -> dict[str, Any]:
    """An address as it is stored: its fields that are set, by name."""
    return {
        field.name: list(value) if field.is_repeated else value
        for field, value in address.ListFields()
    }


def tracking_column(tracking: order_pb2.Order.Tracking | None) -> dict[str, str] | None:
    """How to follow a parcel as it is stored; None when nothing is said."""
    if tracking is None:
        return None
    return {field.name: value for field, value in tracking.ListFields()} or None


def _id(value: object) -> str:
    return "" if value is None else str(value)
