"""How common words are, by Postgres' own statistics."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """A service's role may not read the statistics of an expression's index, so its owner does."""
    op.execute("""
        CREATE FUNCTION catalog.word_shares(OUT word text, OUT share real, OUT in_names boolean)
        RETURNS SETOF record
        LANGUAGE sql STABLE SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp
        BEGIN ATOMIC
            SELECT word, share, in_names FROM (
                SELECT unnest(most_common_elems::text::text[]) AS word,
                    unnest(most_common_elem_freqs) AS share,
                    tablename = 'products_name_words' AS in_names
                FROM pg_stats
                WHERE schemaname = 'catalog'
                    AND (tablename, attname) IN (
                        ('products', 'search'), ('products_name_words', 'words')
                    )
            ) AS common WHERE word IS NOT NULL;
        END
    """)
