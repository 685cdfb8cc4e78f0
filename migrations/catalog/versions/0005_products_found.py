"""One inverted index of words, words in names and categories, which are asked for together."""

from __future__ import annotations

from migrations.online import create_index_concurrently

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Nothing waits for it."""
    create_index_concurrently(
        "products_found",
        "products",
        "USING gin (search, catalog.words(name), category_ids)",
        schema="catalog",
    )
