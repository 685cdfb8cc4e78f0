"""Users who were erased, and notes of the history that may be emptied for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """The trigger is replaced: the history is still only added to, but for its notes."""
    op.create_table(
        "erased_users",
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column(
            "create_time", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        schema="order",
    )
    op.execute("""
        CREATE OR REPLACE TRIGGER order_events_update BEFORE UPDATE ON "order".order_events
        FOR EACH ROW WHEN (
            NEW.note <> ''
            OR (NEW.order_id, NEW.sequence, NEW.from_status, NEW.to_status, NEW.actor, NEW.user_id,
                NEW.create_time)
            IS DISTINCT FROM
               (OLD.order_id, OLD.sequence, OLD.from_status, OLD.to_status, OLD.actor, OLD.user_id,
                OLD.create_time)
        ) EXECUTE FUNCTION "order".refuse_change()
    """)
