"""The indexes that the new one replaces are removed, once its statistics are there."""

from __future__ import annotations

from alembic import op

from migrations.online import drop_index_concurrently

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Each step may be done again."""
    with op.get_context().autocommit_block():
        op.execute("ANALYZE catalog.products")
        op.execute("""
            CREATE OR REPLACE FUNCTION catalog.word_shares(
                OUT word text, OUT share real, OUT in_names boolean
            )
            RETURNS SETOF record
            LANGUAGE sql STABLE SECURITY DEFINER
            SET search_path = pg_catalog, pg_temp
            BEGIN ATOMIC
                SELECT word, share, in_names FROM (
                    SELECT unnest(most_common_elems::text::text[]) AS word,
                        unnest(most_common_elem_freqs) AS share,
                        tablename = 'products_found' AS in_names
                    FROM pg_stats
                    WHERE schemaname = 'catalog'
                        AND (tablename, attname) IN (
                            ('products', 'search'), ('products_found', 'words')
                        )
                ) AS common WHERE word IS NOT NULL;
            END
        """)
    drop_index_concurrently("products_search", schema="catalog")
    drop_index_concurrently("products_name_words", schema="catalog")
