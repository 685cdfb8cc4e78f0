"""Counts orders and their money, as their status changes."""

from __future__ import annotations

from functools import partial

from prometheus_client import Counter

from services.kit.db import Row, Transaction
from services.kit.statements import Fields
from shop.order.v1.order_pb2 import Order

ORDERS = Counter("shop_orders_total", "Orders that came into a status.", ["status"])
MONEY = Counter(
    "shop_orders_money_total",
    "Totals of the orders that came into a status, in minor units of their currency.",
    ["status", "currency"],
)
for _status in Order.Status.keys():  # noqa: SIM118 - no mapping
    ORDERS.labels(_status)


def moved(tx: Transaction, order: Row) -> None:
    """Count an order's new status, once it is committed."""
    tx.when_committed(partial(count, order))


def count(order: Fields) -> None:
    """Count the status that an order has come into."""
    status = Order.Status.Name(order["status"])
    ORDERS.labels(status).inc()
    if order["currency"] is not None:
        MONEY.labels(status, order["currency"]).inc(order["total"])
