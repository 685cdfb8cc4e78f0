"""Which frequent terms some product has together: where there is none, nothing is searched."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import BIT

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """No term is followed yet: services choose them."""
    op.create_table(
        "frequent_terms",
        sa.Column("term", sa.Text(collation="C"), primary_key=True),
        sa.Column("number", sa.SmallInteger, nullable=False),
        sa.Column("met", BIT(1024), nullable=False, server_default=sa.text("B'0'::bit(1024)")),
        sa.Column("complete", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column(
            "begin_time",
            sa.TIMESTAMP(timezone=True),
            nullable=False,
            server_default=sa.func.now(),
        ),
        sa.CheckConstraint("number BETWEEN 0 AND 1023", name="frequent_terms_number"),
        sa.Index("frequent_terms_number", "number", unique=True),
        schema="catalog",
    )
    # Only what is new is written, in the order of terms, so that nobody deadlocks.
    op.execute("""
        CREATE FUNCTION catalog.meet(ids uuid[]) RETURNS void
        LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
        BEGIN
            WITH present AS MATERIALIZED (
                SELECT product.id, known.term, known.met,
                    set_bit(B'0'::bit(1024), known.number, 1) AS own
                FROM catalog.products AS product, LATERAL (
                    SELECT lexeme FROM unnest(product.search)
                    UNION ALL SELECT unnest(product.category_ids)::text
                    UNION ALL SELECT unnest(catalog.facets(product.attributes, product.currency))
                ) AS has (term)
                JOIN catalog.frequent_terms AS known ON known.term = has.term COLLATE "C"
                WHERE product.id = ANY (ids)
            ), products AS (
                SELECT id, bit_or(own) AS terms FROM present GROUP BY id
            ), found AS MATERIALIZED (
                SELECT term, bit_or(terms) AS met FROM present JOIN products USING (id)
                WHERE present.met | terms <> present.met
                GROUP BY term
            ), news AS MATERIALIZED (
                SELECT known.term, found.met
                FROM catalog.frequent_terms AS known JOIN found USING (term)
                ORDER BY known.term
                FOR NO KEY UPDATE OF known
            )
            UPDATE catalog.frequent_terms AS known SET met = known.met | news.met
            FROM news WHERE known.term = news.term;
        END
        $$
    """)
    op.execute("""
        CREATE FUNCTION catalog.note_meetings() RETURNS trigger
        LANGUAGE plpgsql AS $$
        BEGIN
            IF NOT EXISTS (SELECT FROM catalog.frequent_terms) THEN
                RETURN NULL;
            END IF;
            IF TG_OP = 'INSERT' THEN
                PERFORM catalog.meet(ARRAY(SELECT id FROM changed));
            ELSE
                PERFORM catalog.meet(ARRAY[NEW.id]);
            END IF;
            RETURN NULL;
        END
        $$
    """)
    op.execute("""
        CREATE TRIGGER products_note_meetings_on_insert
        AFTER INSERT ON catalog.products
        REFERENCING NEW TABLE AS changed
        FOR EACH STATEMENT EXECUTE FUNCTION catalog.note_meetings()
    """)
    # A new price costs nothing.
    op.execute("""
        CREATE TRIGGER products_note_meetings_on_update
        AFTER UPDATE ON catalog.products
        FOR EACH ROW WHEN (
            (old.search, old.category_ids, old.attributes, old.currency)
            IS DISTINCT FROM (new.search, new.category_ids, new.attributes, new.currency)
        )
        EXECUTE FUNCTION catalog.note_meetings()
    """)
