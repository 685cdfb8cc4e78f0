"""Rows of payments, refunds and disputes as messages."""

from __future__ import annotations

from services.kit.call import Caller
from services.kit.etags import etag
from services.kit.money import from_minor
from services.kit.statements import Fields
from services.kit.times import from_micros, timestamp
from services.payment import rules
from shop.payment.v1 import payment_pb2


def payment(row: Fields, reader: Caller) -> payment_pb2.Payment:
    """A payment with its parts; what lets somebody finish it is for its payer alone."""
    currency = row["currency"]
    message = payment_pb2.Payment(
        id=str(row["id"]),
        order_id=str(row["order_id"]),
        user_id=str(row["user_id"]),
        amount=from_minor(row["amount"], currency),
        refunded_amount=from_minor(row["refunded"], currency),
        status=row["status"],
        card_brand=row["card_brand"],
        card_last4=row["card_last4"],
        refunds=[_refund(each, currency) for each in row["refunds"]],
        disputes=[_dispute(each) for each in row["disputes"]],
        create_time=timestamp(row["create_time"]),
        update_time=timestamp(row["update_time"]),
        etag=etag(row),
    )
    if row["status"] == rules.FAILED:
        message.failure.code = row["failure_code"]
        message.failure.message = row["failure_message"]
    if row["status"] == rules.REQUIRES_ACTION and reader.user_id == row["user_id"]:
        message.client_secret = row["client_secret"]
        message.redirect_url = row["redirect_url"]
    return message


def _refund(refund: Fields, currency: str) -> payment_pb2.Refund:
    return payment_pb2.Refund(
        id=refund["id"],
        amount=from_minor(refund["amount"], currency),
        reason=refund["reason"],
        note=refund["note"],
        status=refund["status"],
        create_time=from_micros(refund["create_time"]),
    )


def _dispute(dispute: Fields) -> payment_pb2.Dispute:
    return payment_pb2.Dispute(
        id=dispute["id"],
        amount=from_minor(dispute["amount"], dispute["currency"]),
        reason=dispute["reason"],
        status=dispute["status"],
        create_time=from_micros(dispute["create_time"]),
        update_time=from_micros(dispute["update_time"]),
    )
