"""The words of the products that were there before."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """All words are gathered before the first is written: rows are locked for a moment only."""
    op.execute("""
        INSERT INTO catalog.vocabulary AS learned (word, cheapest, dearest, first_name)
        SELECT lexeme, min(price), max(price), min(name_key)
        FROM catalog.products, unnest(search)
        WHERE lexeme ~ '^[[:alpha:]]'
        GROUP BY lexeme
        ORDER BY lexeme COLLATE "C"
        ON CONFLICT (word) DO UPDATE
        SET cheapest = least(learned.cheapest, excluded.cheapest),
            dearest = greatest(learned.dearest, excluded.dearest),
            first_name = least(learned.first_name, excluded.first_name)
    """)
