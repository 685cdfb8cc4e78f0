"""What the inverted index is to hold beside words and categories; how common all of these are."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Nothing uses them yet."""
    op.execute("""
        CREATE FUNCTION catalog.facets(attributes jsonb, currency text) RETURNS text[]
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        RETURN ARRAY(
            SELECT '=' || currency
            UNION ALL SELECT key || '=' || value FROM jsonb_each_text(attributes)
        )
    """)
    # A UUIDv7 begins with the moment when it was made, in milliseconds. Here it is in several
    # precisions, powers of two: cells, each with its precision in the last six bits.
    op.execute("""
        CREATE FUNCTION catalog.moments(id uuid) RETURNS bigint[]
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        RETURN ARRAY(
            SELECT made >> bits << 6 | bits
            FROM (
                SELECT ('x' || left(translate(id::text, '-', ''), 12))::bit(48)::bigint AS made
            ) AS moment, unnest('{10,14,18,22,26,30,34,38}'::integer[]) AS bits
        )
    """)
    # Ids and prices without a share are those that part all (other) products evenly. A service's
    # role may not read the statistics of an index on an expression, so its owner does.
    op.execute("""
        CREATE FUNCTION catalog.common_terms(OUT kind text, OUT value text, OUT share real)
        RETURNS SETOF record
        LANGUAGE sql STABLE SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp
        BEGIN ATOMIC
            SELECT kind, value, share FROM (
                SELECT CASE attname WHEN 'search' THEN 'word' WHEN 'words' THEN 'name'
                        WHEN 'facets' THEN 'facet' ELSE 'category' END AS kind,
                    unnest(most_common_elems::text::text[]) AS value,
                    unnest(most_common_elem_freqs) AS share
                FROM pg_stats
                WHERE schemaname = 'catalog'
                    AND (tablename, attname) IN (
                        ('products', 'search'), ('products_sought', 'words'),
                        ('products', 'category_ids'), ('products_sought', 'facets')
                    )
            ) AS common WHERE value IS NOT NULL
            UNION ALL
            SELECT attname::text, unnest(histogram_bounds::text::text[]), NULL FROM pg_stats
            WHERE schemaname = 'catalog' AND tablename = 'products' AND attname IN ('id', 'price')
            UNION ALL
            SELECT 'price', unnest(most_common_vals::text::text[]), unnest(most_common_freqs)
            FROM pg_stats
            WHERE schemaname = 'catalog' AND tablename = 'products' AND attname = 'price'
            UNION ALL
            SELECT 'products', NULL, reltuples FROM pg_class
            WHERE oid = 'catalog.products'::regclass;
        END
    """)
