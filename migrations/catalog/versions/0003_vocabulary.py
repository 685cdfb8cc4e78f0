"""The words of products, each with where it is found first in lists by price and by name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """From here on words are learned; those of earlier products come with the next migration.

    Whoever is writing a product is waited for, so that none is missed by both.
    """
    op.create_table(
        "vocabulary",
        sa.Column("word", sa.Text(collation="C"), primary_key=True),
        sa.Column("cheapest", sa.BigInteger, nullable=False),
        sa.Column("dearest", sa.BigInteger, nullable=False),
        sa.Column("first_name", sa.Text(collation="C"), nullable=False),
        schema="catalog",
    )
    op.execute("LOCK TABLE catalog.products IN SHARE ROW EXCLUSIVE MODE")
    # Only what is new is written, in the order of words, so that nobody waits long or deadlocks.
    op.execute("""
        CREATE OR REPLACE FUNCTION catalog.learn_words() RETURNS trigger
        LANGUAGE plpgsql AS $$
        BEGIN
            WITH found AS (
                SELECT lexeme AS word, min(price) AS cheapest, max(price) AS dearest,
                    min(name_key) AS first_name
                FROM changed, unnest(changed.search)
                WHERE lexeme ~ '^[[:alpha:]]'
                GROUP BY lexeme
            ), news AS MATERIALIZED (
                SELECT found.*, known.word IS NULL AS is_new
                FROM found LEFT JOIN catalog.vocabulary AS known USING (word)
                WHERE known.word IS NULL
                    OR found.cheapest < known.cheapest OR found.dearest > known.dearest
                    OR found.first_name < known.first_name
            ), kept AS (
                INSERT INTO catalog.vocabulary AS kept (word, cheapest, dearest, first_name)
                SELECT word, cheapest, dearest, first_name FROM news ORDER BY word COLLATE "C"
                ON CONFLICT (word) DO UPDATE
                SET cheapest = least(kept.cheapest, excluded.cheapest),
                    dearest = greatest(kept.dearest, excluded.dearest),
                    first_name = least(kept.first_name, excluded.first_name)
            ), learned AS (
                INSERT INTO catalog.spellings (spelling, word)
                SELECT word, word FROM news
                WHERE is_new AND word ~ '^[[:alpha:]]{4,40}$'
                ORDER BY word COLLATE "C"
                ON CONFLICT DO NOTHING
                RETURNING word
            )
            INSERT INTO catalog.spellings (spelling, word)
            SELECT DISTINCT rest, word FROM learned, unnest(catalog.rests(word)) AS rest;
            RETURN NULL;
        END
        $$
    """)
