"""Payments as they begin: payments, refunds, disputes, and what Stripe has told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.kit_tables import create_idempotency_keys, create_outbox

revision = "0001"
down_revision = None

moment = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    """All tables are new, so nothing has to be done concurrently."""
    op.create_table(
        "orders",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("close_time", moment),
        sa.Column("close_note", sa.Text, nullable=False, server_default=""),
        schema="payment",
    )
    _create_payments()
    _create_refunds()
    _create_what_stripe_tells()
    create_idempotency_keys("payment")
    create_outbox("payment")


def _create_payments() -> None:
    op.create_table(
        "payments",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column(
            "order_id",
            sa.Uuid,
            sa.ForeignKey("payment.orders.id", name="payments_order_id_fkey"),
            nullable=False,
        ),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("payment_method", sa.Text, nullable=False),
        sa.Column("return_url", sa.Text, nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("intent_id", sa.Text),
        sa.Column("intent_status", sa.Text, nullable=False, server_default=""),
        sa.Column("client_secret", sa.Text, nullable=False, server_default=""),
        sa.Column("redirect_url", sa.Text, nullable=False, server_default=""),
        sa.Column("failure_code", sa.Text, nullable=False, server_default=""),
        sa.Column("failure_message", sa.Text, nullable=False, server_default=""),
        sa.Column("card_brand", sa.Text, nullable=False, server_default=""),
        sa.Column("card_last4", sa.Text, nullable=False, server_default=""),
        sa.Column("captured", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("refund_pending", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("refunded", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("give_back", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("give_back_note", sa.Text, nullable=False, server_default=""),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("fingerprint", sa.LargeBinary),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="1"),
        sa.Column("attempt_time", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("attempt_until", moment),
        sa.Column("check_time", moment),
        sa.Column("checks", sa.Integer, nullable=False, server_default="0"),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("create_time", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("update_time", moment, nullable=False, server_default=sa.func.now()),
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
        sa.Index(
            "payments_intent",
            "intent_id",
            unique=True,
            postgresql_where=sa.text("intent_id IS NOT NULL"),
        ),
        sa.Index("payments_newest_of_order", "order_id", "create_time", "id"),
        sa.Index("payments_due", "check_time", postgresql_where=sa.text("check_time IS NOT NULL")),
        schema="payment",
    )


def _create_refunds() -> None:
    op.create_table(
        "refunds",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column(
            "payment_id",
            sa.Uuid,
            sa.ForeignKey("payment.payments.id", name="refunds_payment_id_fkey"),
            nullable=False,
        ),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.SmallInteger, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("stripe_id", sa.Text),
        sa.Column("failure_code", sa.Text, nullable=False, server_default=""),
        sa.Column("user_id", sa.Uuid),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("fingerprint", sa.LargeBinary),
        sa.Column("create_time", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("update_time", moment, nullable=False, server_default=sa.func.now()),
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
        schema="payment",
    )


def _create_what_stripe_tells() -> None:
    op.create_table(
        "disputes",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("intent_id", sa.Text, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("create_time", moment, nullable=False),
        sa.Column("update_time", moment, nullable=False),
        sa.Index("disputes_of_intent", "intent_id", "create_time", "id"),
        schema="payment",
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("create_time", moment, nullable=False, server_default=sa.func.now()),
        sa.Index("events_create_time", "create_time"),
        schema="payment",
    )
    op.create_table(
        "walks",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("done_until", moment),
        sa.Column("next_time", moment, nullable=False, server_default=sa.func.now()),
        schema="payment",
    )
