"""The tables of orders, as their statements and migrations see them.

What the database itself refuses: a second order of one cart, two orders of one idempotency key, a
total that is not the sum of its parts, more given back than was paid, two payments that both paid
an order, a placed order that is deleted, an event that is changed.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from services.kit import idempotency, outbox

metadata = sa.MetaData(
    schema="order",
    naming_convention={"fk": "%(table_name)s_%(column_0_name)s_fkey", "pk": "%(table_name)s_pkey"},
)

Moment = sa.TIMESTAMP(timezone=True)


def _life() -> list[sa.Column[object]]:
    """The columns of a mutable resource: its version (the etag) and its times."""
    return [
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("create_time", Moment, nullable=False, server_default=sa.func.now()),
        sa.Column("update_time", Moment, nullable=False, server_default=sa.func.now()),
    ]


# Statuses are the numbers of Order.Status: 1 PENDING, 2 AWAITING_PAYMENT, 7 CANCELLED.
orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("number", sa.Text, nullable=False),
    sa.Column("user_id", sa.Uuid, nullable=False),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("status", sa.SmallInteger, nullable=False),
    # Unknown until the order is placed, all of them.
    sa.Column("currency", sa.Text),
    sa.Column("subtotal", sa.BigInteger),
    sa.Column("shipping_total", sa.BigInteger),
    sa.Column("tax_total", sa.BigInteger),
    sa.Column("total", sa.BigInteger),
    sa.Column("tax_included", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("discount_total", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("refunded_total", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("shipping_address", JSONB, nullable=False),
    sa.Column("shipping_phone", sa.Text, nullable=False),
    sa.Column("tracking", JSONB),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("payment_id", sa.Uuid),
    sa.Column("cart_id", sa.Uuid),
    sa.Column("cart_etag", sa.Text, nullable=False, server_default=""),
    # Whether what was ordered has been taken out of the cart.
    sa.Column("cart_cleared", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("fingerprint", sa.LargeBinary),
    # While it is PENDING: the ReserveStockRequest, and what the customer was told it costs.
    sa.Column("demand", sa.LargeBinary),
    sa.Column("expected_total", sa.BigInteger),
    sa.Column("expected_currency", sa.Text),
    sa.Column("last_sequence", sa.Integer, nullable=False, server_default="1"),
    sa.Column("expire_time", Moment),
    *_life(),
    sa.CheckConstraint("status BETWEEN 1 AND 9", name="orders_status"),
    sa.CheckConstraint("(status = 1) = (demand IS NOT NULL)", name="orders_demand"),
    sa.CheckConstraint(
        "num_nulls(currency, subtotal, shipping_total, tax_total, total) IN (0, 5)"
        " AND (status IN (1, 7) OR total IS NOT NULL)",
        name="orders_placed",
    ),
    sa.CheckConstraint(
        "total = subtotal + shipping_total - discount_total"
        " + CASE WHEN tax_included THEN 0 ELSE tax_total END",
        name="orders_total",
    ),
    sa.CheckConstraint(
        "subtotal >= 0 AND shipping_total >= 0 AND tax_total >= 0 AND discount_total >= 0"
        " AND total >= 0",
        name="orders_amounts",
    ),
    sa.CheckConstraint(
        "refunded_total BETWEEN 0 AND coalesce(total, 0)", name="orders_refunded_total"
    ),
    sa.CheckConstraint(
        "status IN (1, 2, 7) OR payment_id IS NOT NULL OR total = 0", name="orders_payment_id"
    ),
    sa.Index("orders_number", "number", unique=True),
    sa.Index(
        "orders_idempotency_key",
        "user_id",
        "idempotency_key",
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    ),
    # A cart lives on when its order is paid: what was ordered is taken out, and it is filled again.
    # Until then it is that order's, and a content that was ordered is never ordered again.
    sa.Index(
        "orders_cart_id",
        "cart_id",
        unique=True,
        postgresql_where=sa.text("status <> 7 AND NOT cart_cleared"),
    ),
    sa.Index(
        "orders_cart_content",
        "cart_id",
        "cart_etag",
        unique=True,
        postgresql_where=sa.text("status <> 7"),
    ),
    # The orders of the lists, read backwards: newest first.
    sa.Index("orders_newest", "create_time", "id"),
    sa.Index("orders_newest_of_status", "status", "create_time", "id"),
    sa.Index("orders_newest_of_user", "user_id", "create_time", "id"),
    sa.Index("orders_newest_of_user_and_status", "user_id", "status", "create_time", "id"),
    # What the sweeper looks for.
    sa.Index("orders_pending", "create_time", postgresql_where=sa.text("status = 1")),
    sa.Index("orders_unpaid", "expire_time", postgresql_where=sa.text("status = 2")),
)


def _order_id(*, primary_key: bool = True) -> sa.Column[object]:
    key = sa.ForeignKey("order.orders.id", ondelete="CASCADE")
    return sa.Column("order_id", sa.Uuid, key, primary_key=primary_key, nullable=False)


order_lines = sa.Table(
    "order_lines",
    metadata,
    _order_id(),
    sa.Column("line", sa.SmallInteger, primary_key=True),
    sa.Column("id", sa.Uuid, nullable=False),
    sa.Column("variant_id", sa.Uuid, nullable=False),
    sa.Column("product_id", sa.Uuid, nullable=False),
    sa.Column("product_name", sa.Text, nullable=False),
    sa.Column("sku", sa.Text, nullable=False),
    sa.Column("options", JSONB, nullable=False),
    sa.Column("quantity", sa.Integer, nullable=False),
    sa.Column("unit_price", sa.BigInteger, nullable=False),
    sa.CheckConstraint("quantity > 0 AND unit_price >= 0", name="order_lines_amounts"),
)

# The history. Triggers refuse to change it, but for emptying the notes of a user who was erased; it
# goes only with an order that was never placed.
order_events = sa.Table(
    "order_events",
    metadata,
    _order_id(),
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("from_status", sa.SmallInteger, nullable=False),
    sa.Column("to_status", sa.SmallInteger, nullable=False),
    sa.Column("actor", sa.SmallInteger, nullable=False),
    sa.Column("user_id", sa.Uuid),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("create_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.CheckConstraint("sequence > 0", name="order_events_sequence"),
)

# What the payment service has told of each payment of an order.
settlements = sa.Table(
    "settlements",
    metadata,
    _order_id(),
    sa.Column("payment_id", sa.Uuid, primary_key=True),
    # MarkPaidResponse.Outcome; 0: nobody has told yet that it was captured.
    sa.Column("outcome", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("failed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("refunded", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("create_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.CheckConstraint("outcome BETWEEN 0 AND 2", name="settlements_outcome"),
    sa.Index(
        "settlements_accepted",
        "order_id",
        unique=True,
        postgresql_where=sa.text("outcome = 1"),
    ),
)

shipping_rates = sa.Table(
    "shipping_rates",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    # Empty: all countries that have no rate of their own.
    sa.Column("region_code", sa.Text(collation="C"), nullable=False),
    sa.Column("currency", sa.Text(collation="C"), nullable=False),
    sa.Column("price", sa.BigInteger, nullable=False),
    sa.Column("free_over", sa.BigInteger),
    *_life(),
    sa.CheckConstraint("price >= 0 AND free_over >= 0", name="shipping_rates_amounts"),
    sa.Index("shipping_rates_region_code", "region_code", "currency", unique=True),
)

tax_rates = sa.Table(
    "tax_rates",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("region_code", sa.Text(collation="C"), nullable=False),
    sa.Column("rate_ppm", sa.Integer, nullable=False),
    sa.Column("included", sa.Boolean, nullable=False),
    *_life(),
    sa.CheckConstraint("rate_ppm BETWEEN 0 AND 1000000", name="tax_rates_rate_ppm"),
    sa.Index("tax_rates_region_code", "region_code", unique=True),
)

# Users whose traces were erased.
erased_users = sa.Table(
    "erased_users",
    metadata,
    sa.Column("user_id", sa.Uuid, primary_key=True),
    sa.Column("create_time", Moment, nullable=False, server_default=sa.func.now()),
)

idempotency_keys = idempotency.table(metadata)
outbox_rows = outbox.table(metadata)
