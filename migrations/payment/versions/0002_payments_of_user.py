"""The payments of a user, for their erasure."""

from __future__ import annotations

from migrations.online import create_index_concurrently

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Nothing waits for it."""
    create_index_concurrently("payments_of_user", "payments", "(user_id)", schema="payment")
