"""Carts as they begin: carts of customers and guests, their items, the orders they became."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.kit_tables import create_idempotency_keys

revision = "0001"
down_revision = None

moment = sa.TIMESTAMP(timezone=True)


def _cart_id(table: str) -> sa.Column[object]:
    key = sa.ForeignKey("cart.carts.id", name=f"{table}_cart_id_fkey", ondelete="CASCADE")
    return sa.Column("cart_id", sa.Uuid, key, nullable=False)


def upgrade() -> None:
    """All tables are new, so nothing has to be done concurrently."""
    op.create_table(
        "carts",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("user_id", sa.Uuid),
        sa.Column("token_hash", sa.LargeBinary),
        sa.Column("merge_time", moment),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("create_time", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("update_time", moment, nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("(user_id IS NULL) <> (token_hash IS NULL)", name="carts_owner"),
        sa.CheckConstraint("merge_time IS NULL OR user_id IS NULL", name="carts_merge_time"),
        sa.Index("carts_user_id", "user_id", unique=True),
        sa.Index("carts_token_hash", "token_hash", unique=True),
        sa.Index("carts_update_time", "update_time", postgresql_where=sa.text("user_id IS NULL")),
        schema="cart",
    )
    op.create_table(
        "items",
        sa.Column("id", sa.Uuid, primary_key=True),
        _cart_id("items"),
        sa.Column("variant_id", sa.Uuid, nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("unit_price", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.CheckConstraint("quantity BETWEEN 1 AND 999", name="items_quantity"),
        sa.Index("items_variant_id", "cart_id", "variant_id", unique=True),
        schema="cart",
    )
    op.create_table(
        "orders",
        sa.Column("order_id", sa.Uuid, primary_key=True),
        _cart_id("orders"),
        sa.Column("create_time", moment, nullable=False, server_default=sa.func.now()),
        sa.Index("orders_cart_id", "cart_id"),
        schema="cart",
    )
    create_idempotency_keys("cart")
