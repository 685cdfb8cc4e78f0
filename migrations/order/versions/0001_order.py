"""Orders as they begin: orders with lines and history, settlements, rates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.kit_tables import create_idempotency_keys, create_outbox

revision = "0001"
down_revision = None

moment = sa.TIMESTAMP(timezone=True)

# Until its staff set rates, a shop ships everywhere for nothing, in the currencies traded most.
CURRENCIES = """
    AED AUD BRL CAD CHF CNY CZK DKK EUR GBP HKD HUF IDR ILS INR JPY KRW KWD MXN MYR NOK NZD PHP PLN
    RON SAR SEK SGD THB TRY TWD USD VND ZAR
"""


def _life() -> list[sa.Column[object]]:
    return [
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("create_time", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("update_time", moment, nullable=False, server_default=sa.func.now()),
    ]


def _order_id(table: str) -> sa.Column[object]:
    key = sa.ForeignKey("order.orders.id", name=f"{table}_order_id_fkey", ondelete="CASCADE")
    return sa.Column("order_id", sa.Uuid, key, primary_key=True, nullable=False)


def upgrade() -> None:
    """All tables are new, so nothing has to be done concurrently."""
    _create_orders()
    _create_lines()
    _create_events()
    _create_settlements()
    _create_rates()
    _keep_history()
    create_idempotency_keys("order")
    create_outbox("order")


def _create_orders() -> None:
    op.create_table(
        "orders",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("number", sa.Text, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
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
        sa.Column("cart_cleared", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("fingerprint", sa.LargeBinary),
        sa.Column("demand", sa.LargeBinary),
        sa.Column("expected_total", sa.BigInteger),
        sa.Column("expected_currency", sa.Text),
        sa.Column("last_sequence", sa.Integer, nullable=False, server_default="1"),
        sa.Column("expire_time", moment),
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
        sa.Index("orders_newest", "create_time", "id"),
        sa.Index("orders_newest_of_status", "status", "create_time", "id"),
        sa.Index("orders_newest_of_user", "user_id", "create_time", "id"),
        sa.Index("orders_newest_of_user_and_status", "user_id", "status", "create_time", "id"),
        sa.Index("orders_pending", "create_time", postgresql_where=sa.text("status = 1")),
        sa.Index("orders_unpaid", "expire_time", postgresql_where=sa.text("status = 2")),
        schema="order",
    )


def _create_lines() -> None:
    op.create_table(
        "order_lines",
        _order_id("order_lines"),
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
        schema="order",
    )


def _create_events() -> None:
    op.create_table(
        "order_events",
        _order_id("order_events"),
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("from_status", sa.SmallInteger, nullable=False),
        sa.Column("to_status", sa.SmallInteger, nullable=False),
        sa.Column("actor", sa.SmallInteger, nullable=False),
        sa.Column("user_id", sa.Uuid),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("create_time", moment, nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("sequence > 0", name="order_events_sequence"),
        schema="order",
    )


def _create_settlements() -> None:
    op.create_table(
        "settlements",
        _order_id("settlements"),
        sa.Column("payment_id", sa.Uuid, primary_key=True),
        sa.Column("outcome", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("failed", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("refunded", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("create_time", moment, nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("outcome BETWEEN 0 AND 2", name="settlements_outcome"),
        sa.Index(
            "settlements_accepted",
            "order_id",
            unique=True,
            postgresql_where=sa.text("outcome = 1"),
        ),
        schema="order",
    )


def _create_rates() -> None:
    shipping_rates = op.create_table(
        "shipping_rates",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("region_code", sa.Text(collation="C"), nullable=False),
        sa.Column("currency", sa.Text(collation="C"), nullable=False),
        sa.Column("price", sa.BigInteger, nullable=False),
        sa.Column("free_over", sa.BigInteger),
        *_life(),
        sa.CheckConstraint("price >= 0 AND free_over >= 0", name="shipping_rates_amounts"),
        sa.Index("shipping_rates_region_code", "region_code", "currency", unique=True),
        schema="order",
    )
    op.create_table(
        "tax_rates",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("region_code", sa.Text(collation="C"), nullable=False),
        sa.Column("rate_ppm", sa.Integer, nullable=False),
        sa.Column("included", sa.Boolean, nullable=False),
        *_life(),
        sa.CheckConstraint("rate_ppm BETWEEN 0 AND 1000000", name="tax_rates_rate_ppm"),
        sa.Index("tax_rates_region_code", "region_code", unique=True),
        schema="order",
    )
    for number, currency in enumerate(CURRENCIES.split(), start=1):
        op.execute(
            sa.insert(shipping_rates).values(
                # A UUIDv7 of the day that these rates were chosen.
                id=sa.literal(f"019ab2f0-5c00-7000-8000-{number:012x}", sa.Uuid(as_uuid=False)),
                region_code="",
                currency=currency,
                price=0,
            )
        )


def _keep_history() -> None:
    """The history is only added to, and an order that was placed stays."""
    op.execute("""
        CREATE FUNCTION "order".refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% of % is not allowed', TG_OP, TG_TABLE_NAME
                USING ERRCODE = 'restrict_violation';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER order_events_update BEFORE UPDATE ON "order".order_events
        FOR EACH ROW EXECUTE FUNCTION "order".refuse_change()
    """)
    # Inside a trigger it is the deletion that comes with that of the order.
    op.execute("""
        CREATE TRIGGER order_events_delete BEFORE DELETE ON "order".order_events
        FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION "order".refuse_change()
    """)
    op.execute("""
        CREATE TRIGGER orders_delete BEFORE DELETE ON "order".orders
        FOR EACH ROW WHEN (OLD.status <> 1) EXECUTE FUNCTION "order".refuse_change()
    """)
