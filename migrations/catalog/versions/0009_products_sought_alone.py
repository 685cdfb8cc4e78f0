"""The indexes that the new one replaces are removed, once its statistics are there."""

from __future__ import annotations

from alembic import op

from migrations.online import drop_index_concurrently

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Each step may be done again.

    `products_attributes` stays as long as there are services that do not know facets.
    """
    with op.get_context().autocommit_block():
        op.execute("ANALYZE catalog.products")
    drop_index_concurrently("products_found", schema="catalog")
    drop_index_concurrently("products_category_ids", schema="catalog")
