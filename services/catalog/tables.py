"""The tables of the catalogue, as its statements and migrations see them.

What the database itself refuses: negative stock, more reserved than there is (unless backorders are
allowed), two products of one slug, two variants of one SKU, two variants of a product with the same
options.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BIT, JSONB, TSVECTOR

from services.kit import idempotency, sessions

metadata = sa.MetaData(
    schema="catalog",
    # A list's statement is planned once for all values, on each connection: its plan says nothing
    # of how many products match, and planning it takes longer than to run it.
    info={sessions.SETTINGS: {"plan_cache_mode": "force_generic_plan"}},
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


categories = sa.Table(
    "categories",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("slug", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("parent_id", sa.Uuid, sa.ForeignKey("catalog.categories.id")),
    *_life(),
    sa.Index("categories_slug", "slug", unique=True),
    sa.Index("categories_parent_id", "parent_id"),
    sa.Index("categories_name", "name", "id"),
)

products = sa.Table(
    "products",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("slug", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("category_ids", ARRAY(sa.Uuid), nullable=False),
    sa.Column("attributes", JSONB, nullable=False),
    sa.Column("media", JSONB, nullable=False),
    sa.Column("default_variant_id", sa.Uuid, nullable=False),
    # Of the default variant and of all variants, repeated so that lists need no join to sort.
    sa.Column("price", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("skus", sa.Text, nullable=False),
    *_life(),
    # What lists by name are ordered by: short enough for an index and for a page token.
    sa.Column(
        "name_key",
        sa.Text(collation="C"),
        sa.Computed("left(lower(name), 100)", persisted=True),
        nullable=False,
    ),
    sa.Column(
        "search",
        TSVECTOR,
        sa.Computed(
            "setweight(catalog.words(name), 'A')"
            " || setweight(catalog.words(skus), 'B')"
            " || setweight(catalog.words(description), 'C')",
            persisted=True,
        ),
    ),
    sa.CheckConstraint("state BETWEEN 1 AND 3", name="products_state"),
    sa.Index("products_slug", "slug", unique=True),
    # The orders of ListProducts. UUIDv7 grows with time, so `newest` is the id backwards.
    sa.Index("products_newest", "state", "id"),
    sa.Index("products_price", "state", "price", "id"),
    sa.Index("products_name", "state", "name_key", "id"),
    sa.Index("products_currency", "currency"),
    # Nothing needs it any longer, except services from before facets were in `products_sought`.
    sa.Index(
        "products_attributes",
        "attributes",
        postgresql_using="gin",
        postgresql_ops={"attributes": "jsonb_path_ops"},
    ),
    sa.Index(
        "products_sought",
        sa.text("catalog.moments(id)"),
        "search",
        sa.text("catalog.words(name)"),
        "category_ids",
        sa.text("catalog.facets(attributes, currency)"),
        postgresql_using="gin",
    ),
)

# Products once more for each category they are in, kept by a trigger, so that a category has the
# same orders as the whole catalogue: what is dear may begin anywhere in a list of all prices.
product_categories = sa.Table(
    "product_categories",
    metadata,
    sa.Column(
        "id", sa.Uuid, sa.ForeignKey("catalog.products.id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("category_id", sa.Uuid, primary_key=True),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("price", sa.BigInteger, nullable=False),
    sa.Column("name_key", sa.Text(collation="C"), nullable=False),
    sa.Index("product_categories_newest", "category_id", "state", "id"),
    sa.Index("product_categories_price", "category_id", "state", "price", "id"),
    sa.Index("product_categories_name", "category_id", "state", "name_key", "id"),
)

# The words of names and descriptions (as their own spelling, and once more without each of their
# letters), learned by a trigger: whoever searches with a typing error has such a rest in common.
spellings = sa.Table(
    "spellings",
    metadata,
    sa.Column("spelling", sa.Text(collation="C"), primary_key=True),
    sa.Column("word", sa.Text(collation="C"), primary_key=True),
)

# All words that begin with a letter, learned by a trigger and never forgotten, each with prices
# that all products with it lie between, and a name that none of theirs comes before: where a list
# by price or name may begin, and what the beginning of a word may become.
vocabulary = sa.Table(
    "vocabulary",
    metadata,
    sa.Column("word", sa.Text(collation="C"), primary_key=True),
    sa.Column("cheapest", sa.BigInteger, nullable=False),
    sa.Column("dearest", sa.BigInteger, nullable=False),
    sa.Column("first_name", sa.Text(collation="C"), nullable=False),
)

# Terms (words, categories, facets) that many products have, and which of them some product has had
# together: bits, by their numbers, noted by a trigger and never forgotten. What is `complete` is so
# for all products, and all terms that are.
frequent_terms = sa.Table(
    "frequent_terms",
    metadata,
    sa.Column("term", sa.Text(collation="C"), primary_key=True),
    sa.Column("number", sa.SmallInteger, nullable=False),
    sa.Column("met", BIT(1024), nullable=False, server_default=sa.text("B'0'::bit(1024)")),
    sa.Column("complete", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("begin_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.CheckConstraint("number BETWEEN 0 AND 1023", name="frequent_terms_number"),
    sa.Index("frequent_terms_number", "number", unique=True),
)

variants = sa.Table(
    "variants",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("product_id", sa.Uuid, sa.ForeignKey("catalog.products.id"), nullable=False),
    sa.Column("sku", sa.Text, nullable=False),
    sa.Column("options", JSONB, nullable=False),
    sa.Column("price", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("compare_at_price", sa.BigInteger),
    sa.Column("weight_grams", sa.Integer, nullable=False),
    *_life(),
    sa.CheckConstraint("price >= 0 AND compare_at_price >= 0", name="variants_prices"),
    sa.Index("variants_sku", "sku", unique=True),
    sa.Index("variants_options", "product_id", "options", unique=True),
)

# Apart from the variants, because it changes with every order: its rows are small, and have room to
# be updated in place.
stock = sa.Table(
    "stock",
    metadata,
    sa.Column(
        "variant_id",
        sa.Uuid,
        sa.ForeignKey("catalog.variants.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("on_hand", sa.Integer, nullable=False),
    sa.Column("reserved", sa.Integer, nullable=False, server_default="0"),
    sa.Column("allow_backorder", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.CheckConstraint("reserved >= 0", name="stock_reserved"),
    # On hand below zero is what is owed to backorders.
    sa.CheckConstraint(
        "allow_backorder OR (on_hand >= 0 AND reserved <= on_hand)", name="stock_enough"
    ),
    postgresql_with={"fillfactor": "70"},
)

# The ledger: the changes of a variant add up to what is on hand. It outlives the variant.
stock_movements = sa.Table(
    "stock_movements",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    # Drawn while the stock row is locked: per variant the order in which the changes happened,
    # which ids and times of several processes do not tell.
    sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
    sa.Column("variant_id", sa.Uuid, nullable=False),
    sa.Column("change", sa.Integer, nullable=False),
    sa.Column("on_hand", sa.Integer, nullable=False),
    sa.Column("reason", sa.SmallInteger, nullable=False),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Column("user_id", sa.Uuid),
    sa.Column("order_id", sa.Uuid),
    sa.Column("create_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.CheckConstraint("change <> 0", name="stock_movements_change"),
    sa.Index("stock_movements_variant_id", "variant_id", "sequence"),
)

reservations = sa.Table(
    "reservations",
    metadata,
    sa.Column("order_id", sa.Uuid, primary_key=True),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("expire_time", Moment, nullable=False),
    sa.Column("create_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.CheckConstraint("state BETWEEN 1 AND 4", name="reservations_state"),
    # What the sweeper looks for: ACTIVE ones by the time they end.
    sa.Index("reservations_expire_time", "expire_time", postgresql_where=sa.text("state = 1")),
)

reservation_lines = sa.Table(
    "reservation_lines",
    metadata,
    sa.Column(
        "order_id",
        sa.Uuid,
        sa.ForeignKey("catalog.reservations.order_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("line", sa.SmallInteger, primary_key=True),
    sa.Column("variant_id", sa.Uuid, nullable=False),
    sa.Column("quantity", sa.Integer, nullable=False),
    # The variant as it was when it was reserved: a `VariantSnapshot`, serialized.
    sa.Column("snapshot", sa.LargeBinary, nullable=False),
    sa.CheckConstraint("quantity > 0", name="reservation_lines_quantity"),
    sa.Index("reservation_lines_variant_id", "variant_id"),
)

idempotency_keys = idempotency.table(metadata)
