"""The catalogue as it begins: categories, products, variants, stock, reservations, search."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR

from migrations.kit_tables import create_idempotency_keys

revision = "0001"
down_revision = None

moment = sa.TIMESTAMP(timezone=True)


def _life() -> list[sa.Column[object]]:
    return [
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("create_time", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("update_time", moment, nullable=False, server_default=sa.func.now()),
    ]


def upgrade() -> None:
    """All tables are new, so nothing has to be done concurrently."""
    _create_search()
    _create_categories()
    _create_products()
    _create_variants()
    _create_stock()
    _create_reservations()
    create_idempotency_keys("catalog")
    _keep_product_categories()
    _keep_spellings()


def _create_search() -> None:
    # Words as they are, without accents: the catalogue may be in any language.
    op.execute("CREATE TEXT SEARCH CONFIGURATION catalog.search (COPY = pg_catalog.simple)")
    op.execute(
        "ALTER TEXT SEARCH CONFIGURATION catalog.search ALTER MAPPING FOR"
        " word, numword, hword, hword_part, hword_numpart, numhword"
        " WITH public.unaccent, pg_catalog.simple"
    )
    # Postgres reads `TSH-4401` as a word and a negative number, and `a.b` as a host: so only runs
    # of letters and digits reach its parser.
    op.execute("""
        CREATE FUNCTION catalog.words(text) RETURNS tsvector
        LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN to_tsvector(
            'catalog.search', regexp_replace(normalize($1, NFKC), '[^[:alnum:]]+', ' ', 'g')
        )
    """)
    # What is left of a word without one of its letters: words that differ in one letter, or in the
    # order of two, have such a rest in common.
    op.execute("""
        CREATE FUNCTION catalog.rests(word text) RETURNS text[]
        LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN ARRAY(
            SELECT left(word, n - 1) || substr(word, n + 1) FROM generate_series(1, length(word)) n
        )
    """)


def _create_categories() -> None:
    op.create_table(
        "categories",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("slug", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column(
            "parent_id",
            sa.Uuid,
            sa.ForeignKey("catalog.categories.id", name="categories_parent_id_fkey"),
        ),
        *_life(),
        sa.Index("categories_slug", "slug", unique=True),
        sa.Index("categories_parent_id", "parent_id"),
        sa.Index("categories_name", "name", "id"),
        schema="catalog",
    )


def _create_products() -> None:
    op.create_table(
        "products",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("slug", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("category_ids", ARRAY(sa.Uuid), nullable=False),
        sa.Column("attributes", JSONB, nullable=False),
        sa.Column("media", JSONB, nullable=False),
        sa.Column("default_variant_id", sa.Uuid, nullable=False),
        sa.Column("price", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("skus", sa.Text, nullable=False),
        *_life(),
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
        sa.Index("products_newest", "state", "id"),
        sa.Index("products_price", "state", "price", "id"),
        sa.Index("products_name", "state", "name_key", "id"),
        sa.Index("products_currency", "currency"),
        sa.Index("products_category_ids", "category_ids", postgresql_using="gin"),
        sa.Index(
            "products_attributes",
            "attributes",
            postgresql_using="gin",
            postgresql_ops={"attributes": "jsonb_path_ops"},
        ),
        sa.Index("products_search", "search", postgresql_using="gin"),
        sa.Index("products_name_words", sa.text("catalog.words(name)"), postgresql_using="gin"),
        schema="catalog",
    )


def _create_variants() -> None:
    op.create_table(
        "variants",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column(
            "product_id",
            sa.Uuid,
            sa.ForeignKey("catalog.products.id", name="variants_product_id_fkey"),
            nullable=False,
        ),
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
        schema="catalog",
    )


def _create_stock() -> None:
    op.create_table(
        "stock",
        sa.Column(
            "variant_id",
            sa.Uuid,
            sa.ForeignKey("catalog.variants.id", name="stock_variant_id_fkey", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("on_hand", sa.Integer, nullable=False),
        sa.Column("reserved", sa.Integer, nullable=False, server_default="0"),
        sa.Column("allow_backorder", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.CheckConstraint("reserved >= 0", name="stock_reserved"),
        sa.CheckConstraint(
            "allow_backorder OR (on_hand >= 0 AND reserved <= on_hand)", name="stock_enough"
        ),
        schema="catalog",
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "stock_movements",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("variant_id", sa.Uuid, nullable=False),
        sa.Column("change", sa.Integer, nullable=False),
        sa.Column("on_hand", sa.Integer, nullable=False),
        sa.Column("reason", sa.SmallInteger, nullable=False),
        sa.Column("note", sa.Text, nullable=False, server_default=""),
        sa.Column("user_id", sa.Uuid),
        sa.Column("order_id", sa.Uuid),
        sa.Column("create_time", moment, nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("change <> 0", name="stock_movements_change"),
        sa.Index("stock_movements_variant_id", "variant_id", "sequence"),
        schema="catalog",
    )


def _create_reservations() -> None:
    op.create_table(
        "reservations",
        sa.Column("order_id", sa.Uuid, primary_key=True),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("expire_time", moment, nullable=False),
        sa.Column("create_time", moment, nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("state BETWEEN 1 AND 4", name="reservations_state"),
        sa.Index("reservations_expire_time", "expire_time", postgresql_where=sa.text("state = 1")),
        schema="catalog",
    )
    op.create_table(
        "reservation_lines",
        sa.Column(
            "order_id",
            sa.Uuid,
            sa.ForeignKey(
                "catalog.reservations.order_id",
                name="reservation_lines_order_id_fkey",
                ondelete="CASCADE",
            ),
            primary_key=True,
        ),
        sa.Column("line", sa.SmallInteger, primary_key=True),
        sa.Column("variant_id", sa.Uuid, nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("snapshot", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("quantity > 0", name="reservation_lines_quantity"),
        sa.Index("reservation_lines_variant_id", "variant_id"),
        schema="catalog",
    )


def _keep_product_categories() -> None:
    """Products in the orders of lists, for each category."""
    op.create_table(
        "product_categories",
        sa.Column(
            "id",
            sa.Uuid,
            sa.ForeignKey(
                "catalog.products.id", name="product_categories_id_fkey", ondelete="CASCADE"
            ),
            primary_key=True,
        ),
        sa.Column("category_id", sa.Uuid, primary_key=True),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("price", sa.BigInteger, nullable=False),
        sa.Column("name_key", sa.Text(collation="C"), nullable=False),
        sa.Index("product_categories_newest", "category_id", "state", "id"),
        sa.Index("product_categories_price", "category_id", "state", "price", "id"),
        sa.Index("product_categories_name", "category_id", "state", "name_key", "id"),
        schema="catalog",
    )
    op.execute("""
        CREATE FUNCTION catalog.categorize() RETURNS trigger
        LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' THEN
                DELETE FROM catalog.product_categories AS gone USING changed
                WHERE gone.id = changed.id AND gone.category_id <> ALL (changed.category_ids);
            END IF;
            INSERT INTO catalog.product_categories AS kept (id, category_id, state, price, name_key)
            SELECT id, unnest(category_ids), state, price, name_key FROM changed
            ON CONFLICT (id, category_id) DO UPDATE
            SET state = excluded.state, price = excluded.price, name_key = excluded.name_key
            WHERE (kept.state, kept.price, kept.name_key)
                IS DISTINCT FROM (excluded.state, excluded.price, excluded.name_key);
            RETURN NULL;
        END
        $$
    """)
    _after_changes_of_products("categorize")


def _after_changes_of_products(function: str) -> None:
    """Call a trigger function with the table `changed`, once for each statement."""
    for change in ("INSERT", "UPDATE"):
        op.execute(f"""
            CREATE TRIGGER products_{function}_on_{change.lower()}
            AFTER {change} ON catalog.products
            REFERENCING NEW TABLE AS changed
            FOR EACH STATEMENT EXECUTE FUNCTION catalog.{function}()
        """)


def _keep_spellings() -> None:
    """The words of products, learned when they are written; sorted, so that nobody deadlocks."""
    op.create_table(
        "spellings",
        sa.Column("spelling", sa.Text(collation="C"), primary_key=True),
        sa.Column("word", sa.Text(collation="C"), primary_key=True),
        schema="catalog",
    )
    op.execute("""
        CREATE FUNCTION catalog.learn_words() RETURNS trigger
        LANGUAGE plpgsql AS $$
        BEGIN
            WITH found AS MATERIALIZED (
                SELECT DISTINCT lexeme FROM changed, unnest(changed.search)
            ), learned AS (
                INSERT INTO catalog.spellings (spelling, word)
                SELECT lexeme, lexeme FROM found
                WHERE lexeme ~ '^[[:alpha:]]{4,40}$'
                ORDER BY lexeme
                ON CONFLICT DO NOTHING
                RETURNING word
            )
            INSERT INTO catalog.spellings (spelling, word)
            SELECT DISTINCT rest, word FROM learned, unnest(catalog.rests(word)) AS rest;
            RETURN NULL;
        END
        $$
    """)
    _after_changes_of_products("learn_words")
