"""Rows of stock, its ledger and reservations as messages."""

from __future__ import annotations

from services.catalog import stock_rules
from services.catalog.stock_rules import Reservation
from services.kit.money import from_minor
from services.kit.statements import Fields
from services.kit.times import timestamp
from shop.catalog.v1 import catalog_pb2, stock_pb2


def snapshot(offer: Fields) -> stock_pb2.VariantSnapshot:
    """A row of `stock_store.offers`."""
    message = stock_pb2.VariantSnapshot(
        id=str(offer["id"]),
        product_id=str(offer["product_id"]),
        product_name=offer["product_name"],
        product_slug=offer["product_slug"],
        product_state=offer["product_state"],
        sku=offer["sku"],
        options=offer["options"],
        price=from_minor(offer["price"], offer["currency"]),
        weight_grams=offer["weight_grams"],
        available=max(offer["on_hand"] - offer["reserved"], 0),
        allow_backorder=offer["allow_backorder"],
        is_default=offer["id"] == offer["default_variant_id"],
    )
    if offer["media"] is not None:
        message.media.CopyFrom(catalog_pb2.Media(**offer["media"]))
    return message


def reservation(found: Reservation) -> stock_pb2.Reservation:
    """A reservation; only an active one has an end."""
    message = stock_pb2.Reservation(
        order_id=str(found.order_id),
        state=found.state,
        create_time=timestamp(found.create_time),
    )
    if found.state == stock_rules.ACTIVE:
        message.expire_time.CopyFrom(timestamp(found.expire_time))
    for line in found.lines:
        variant = stock_pb2.VariantSnapshot.FromString(line.snapshot)
        message.lines.add(variant=variant, quantity=line.quantity)
    return message


def movement(row: Fields) -> catalog_pb2.StockMovement:
    """A line of the ledger."""
    return catalog_pb2.StockMovement(
        id=str(row["id"]),
        variant_id=str(row["variant_id"]),
        change=row["change"],
        on_hand=row["on_hand"],
        reason=row["reason"],
        note=row["note"],
        user_id="" if row["user_id"] is None else str(row["user_id"]),
        order_id="" if row["order_id"] is None else str(row["order_id"]),
        create_time=timestamp(row["create_time"]),
    )
