"""Counts payments and their money, as they change."""

from __future__ import annotations

from prometheus_client import Counter

from services.kit.db import Row, Transaction
from shop.payment.v1.payment_pb2 import Payment

PAYMENTS = Counter("shop_payments_total", "Payments that came into a status.", ["status"])
MONEY = Counter(
    "shop_payments_money_total",
    "Money that was captured, or refunded, in minor units of its currency.",
    ["movement", "currency"],
)
for _status in Payment.Status.keys():  # noqa: SIM118 - no mapping
    PAYMENTS.labels(_status)


def changed(tx: Transaction, before: Row, after: Row) -> None:
    """Count what has changed of a payment, once it is committed."""
    sums = {
        "captured": after["captured"] - before["captured"],
        "refunded": after["refunded"] - before["refunded"],
    }

    def count() -> None:
        if after["status"] != before["status"]:
            PAYMENTS.labels(Payment.Status.Name(after["status"])).inc()
        for movement, amount in sums.items():
            if amount > 0:
                MONEY.labels(movement, after["currency"]).inc(amount)

    tx.when_committed(count)
