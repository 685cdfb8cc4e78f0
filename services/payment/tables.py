"""The tables of payments; Alembic compares them with the migrated schema."""

from __future__ import annotations

import sqlalchemy as sa

from services.kit import idempotency, outbox

Moment = sa.TIMESTAMP(timezone=True)
metadata = sa.MetaData(schema="payment")

# What payments have to know of an order: whether money may still be taken for it. Its row is locked
# by whoever begins a payment and whoever closes the order, so that neither misses the other.
orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("close_time", Moment),
    sa.Column("close_note", sa.Text, nullable=False, server_default=""),
)

# Statuses are the numbers of Payment.Status: 1 PROCESSING, 2 REQUIRES_ACTION, 3 SUCCEEDED,
# 4 FAILED, 5 CANCELLED, 6 REFUNDED, 7 PARTIALLY_REFUNDED, 8 UNKNOWN, 9 REVIEW.
payments = sa.Table(
    "payments",
    metadata,
    # Also Stripe's idempotency key.
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("order_id", sa.Uuid, sa.ForeignKey("payment.orders.id"), nullable=False),
    sa.Column("user_id", sa.Uuid, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("payment_method", sa.Text, nullable=False),
    # While it is under way; then it is forgotten.
    sa.Column("return_url", sa.Text, nullable=False),
    sa.Column("status", sa.SmallInteger, nullable=False),
    # Stripe's PaymentIntent, and the status that it was last seen in; unknown until Stripe answers.
    sa.Column("intent_id", sa.Text),
    sa.Column("intent_status", sa.Text, nullable=False, server_default=""),
    # While the customer has to do something.
    sa.Column("client_secret", sa.Text, nullable=False, server_default=""),
    sa.Column("redirect_url", sa.Text, nullable=False, server_default=""),
    sa.Column("failure_code", sa.Text, nullable=False, server_default=""),
    sa.Column("failure_message", sa.Text, nullable=False, server_default=""),
    sa.Column("card_brand", sa.Text, nullable=False, server_default=""),
    sa.Column("card_last4", sa.Text, nullable=False, server_default=""),
    # Money in minor units: taken, on its way back, given back.
    sa.Column("captured", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("refund_pending", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("refunded", sa.BigInteger, nullable=False, server_default="0"),
    # The order cannot be placed: whatever is, or will be, captured goes back.
    sa.Column("give_back", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("give_back_note", sa.Text, nullable=False, server_default=""),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("fingerprint", sa.LargeBinary),
    # How often Stripe was asked to charge, when last, and until when somebody waits for the answer.
    sa.Column("attempts", sa.Integer, nullable=False, server_default="1"),
    sa.Column("attempt_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.Column("attempt_until", Moment),
    # When the reconciler looks at it next (null: nothing is open), and how often it has done so.
    sa.Column("check_time", Moment),
    sa.Column("checks", sa.Integer, nullable=False, server_default="0"),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("create_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.Column("update_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.CheckConstraint("status BETWEEN 1 AND 9", name="payments_status"),
    sa.CheckConstraint("amount > 0", name="payments_amount"),
    sa.CheckConstraint(
        "refunded >= 0 AND refund_pending >= 0 AND refunded + refund_pending <= captured",
        name="payments_refunded",
    ),
    sa.CheckConstraint(
        "CASE status WHEN 3 THEN captured > 0 AND refunded = 0"
        " WHEN 6 THEN captured > 0 AND refunded = captured"
        " WHEN 7 THEN refunded > 0 AND refunded < captured"
        " WHEN 9 THEN true ELSE captured = 0 END",
        name="payments_captured",
    ),
    sa.CheckConstraint("captured = 0 OR intent_id IS NOT NULL", name="payments_intent_id"),
    sa.CheckConstraint(
        "status = 2 OR client_secret = '' AND redirect_url = ''", name="payments_client_secret"
    ),
    sa.CheckConstraint("status <> 4 OR failure_code <> ''", name="payments_failure_code"),
    # One active payment per order.
    sa.Index(
        "payments_active",
        "order_id",
        unique=True,
        postgresql_where=sa.text("status IN (1, 2, 3, 7, 8, 9) AND NOT give_back"),
    ),
    sa.Index(
        "payments_idempotency_key",
        "user_id",
        "idempotency_key",
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    ),
    # No charge is booked twice.
    sa.Index(
        "payments_intent",
        "intent_id",
        unique=True,
        postgresql_where=sa.text("intent_id IS NOT NULL"),
    ),
    # What is erased with a user.
    sa.Index("payments_of_user", "user_id"),
    # The list of an order, read backwards: newest first.
    sa.Index("payments_newest_of_order", "order_id", "create_time", "id"),
    sa.Index("payments_due", "check_time", postgresql_where=sa.text("check_time IS NOT NULL")),
)

# Statuses are the numbers of Refund.Status: 1 PROCESSING, 2 SUCCEEDED, 3 FAILED.
refunds = sa.Table(
    "refunds",
    metadata,
    # Also Stripe's idempotency key.
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("payment_id", sa.Uuid, sa.ForeignKey("payment.payments.id"), nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.SmallInteger, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("status", sa.SmallInteger, nullable=False),
    # Stripe's Refund; unknown until Stripe answers.
    sa.Column("stripe_id", sa.Text),
    sa.Column("failure_code", sa.Text, nullable=False, server_default=""),
    # Who asked for it; null: the shop by itself, or somebody at Stripe's own pages.
    sa.Column("user_id", sa.Uuid),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("fingerprint", sa.LargeBinary),
    sa.Column("create_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.Column("update_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.CheckConstraint("amount > 0", name="refunds_amount"),
    sa.CheckConstraint("reason BETWEEN 1 AND 4", name="refunds_reason"),
    sa.CheckConstraint("status BETWEEN 1 AND 3", name="refunds_status"),
    sa.Index("refunds_of_payment", "payment_id", "create_time", "id"),
    sa.Index(
        "refunds_stripe_id",
        "stripe_id",
        unique=True,
        postgresql_where=sa.text("stripe_id IS NOT NULL"),
    ),
    sa.Index(
        "refunds_idempotency_key",
        "user_id",
        "idempotency_key",
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    ),
)

# A dispute may be heard of before the payment's PaymentIntent is: they meet when they are read.
disputes = sa.Table(
    "disputes",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("intent_id", sa.Text, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("create_time", Moment, nullable=False),
    sa.Column("update_time", Moment, nullable=False),
    sa.Index("disputes_of_intent", "intent_id", "create_time", "id"),
)

# The events of Stripe that have had their effect.
events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("create_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.Index("events_create_time", "create_time"),
)

# How far the reconciler has walked through what happened at Stripe.
walks = sa.Table(
    "walks",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("done_until", Moment),
    sa.Column("next_time", Moment, nullable=False, server_default=sa.func.now()),
)

idempotency_keys = idempotency.table(metadata)
outbox_rows = outbox.table(metadata)
