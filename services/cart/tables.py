"""The tables of carts, as their statements and migrations see them.

What the database itself refuses: a second cart of a customer, a cart of nobody, the same variant in
two items of a cart.
"""

from __future__ import annotations

import sqlalchemy as sa

from services.kit import idempotency

metadata = sa.MetaData(
    schema="cart",
    naming_convention={"fk": "%(table_name)s_%(column_0_name)s_fkey", "pk": "%(table_name)s_pkey"},
)

Moment = sa.TIMESTAMP(timezone=True)

# A guest's cart that was merged into a customer's stays for a while, without items, so that merging
# it again is known to be done.
carts = sa.Table(
    "carts",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("user_id", sa.Uuid),
    sa.Column("token_hash", sa.LargeBinary),
    sa.Column("merge_time", Moment),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("create_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.Column("update_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.CheckConstraint("(user_id IS NULL) <> (token_hash IS NULL)", name="carts_owner"),
    sa.CheckConstraint("merge_time IS NULL OR user_id IS NULL", name="carts_merge_time"),
    sa.Index("carts_user_id", "user_id", unique=True),
    sa.Index("carts_token_hash", "token_hash", unique=True),
    # What the cleanup looks for.
    sa.Index("carts_update_time", "update_time", postgresql_where=sa.text("user_id IS NULL")),
)

items = sa.Table(
    "items",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column(
        "cart_id", sa.Uuid, sa.ForeignKey("cart.carts.id", ondelete="CASCADE"), nullable=False
    ),
    sa.Column("variant_id", sa.Uuid, nullable=False),
    sa.Column("quantity", sa.Integer, nullable=False),
    # What one piece cost when it was last put in.
    sa.Column("unit_price", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.CheckConstraint("quantity BETWEEN 1 AND 999", name="items_quantity"),
    sa.Index("items_variant_id", "cart_id", "variant_id", unique=True),
)

# Orders whose lines were taken out of a cart already.
orders = sa.Table(
    "orders",
    metadata,
    sa.Column("order_id", sa.Uuid, primary_key=True),
    sa.Column(
        "cart_id", sa.Uuid, sa.ForeignKey("cart.carts.id", ondelete="CASCADE"), nullable=False
    ),
    sa.Column("create_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.Index("orders_cart_id", "cart_id"),
)

idempotency_keys = idempotency.table(metadata)
