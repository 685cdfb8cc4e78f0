"""Users who have changed lately are found by an index: orders ask for them all the time."""

from __future__ import annotations

from migrations.online import create_index_concurrently

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Nothing waits for it."""
    create_index_concurrently(
        "users_changed", "users", "(update_time)", schema="users", where="version > 1"
    )
