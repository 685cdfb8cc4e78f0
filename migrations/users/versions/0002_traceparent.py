"""Deliveries of the outbox belong to the trace of the call that promised them."""

from __future__ import annotations

from migrations.kit_tables import add_traceparent_to_outbox

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """A column with a constant default: no row is written anew."""
    add_traceparent_to_outbox("users")
