"""One inverted index of all that lists are filtered by, and of when products were made."""

from __future__ import annotations

from migrations.online import create_index_concurrently

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Nothing waits for it. Moments come first, so that the others are read from there only."""
    create_index_concurrently(
        "products_sought",
        "products",
        "USING gin (catalog.moments(id), search, catalog.words(name), category_ids,"
        " catalog.facets(attributes, currency))",
        schema="catalog",
    )
