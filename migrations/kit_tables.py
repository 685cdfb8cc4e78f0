"""The tables that the kit keeps in every service's schema, as they were first made.

A migration is history: when the kit's tables change, the functions here stay and a new one is
added, which each service calls in a new migration. A test compares the outcome with `services.kit`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


def create_idempotency_keys(schema: str) -> None:
    """The answers that were given, by idempotency key."""
    op.create_table(
        "idempotency_keys",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("method", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.LargeBinary),
        sa.Column("location", sa.Text, nullable=False, server_default=""),
        sa.Column("subject", sa.Text, nullable=False, server_default=""),
        sa.Column(
            "create_time", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.Index("idempotency_keys_create_time", "create_time"),
        sa.Index("idempotency_keys_subject", "subject", postgresql_where=sa.text("subject <> ''")),
        schema=schema,
    )


def create_outbox(schema: str) -> None:
    """What has to happen after a commit."""
    moment = sa.TIMESTAMP(timezone=True)
    op.create_table(
        "outbox",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("last_error", sa.Text, nullable=False, server_default=""),
        sa.Column("next_attempt_time", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("create_time", moment, nullable=False, server_default=sa.func.now()),
        sa.Index("outbox_next_attempt_time", "next_attempt_time"),
        schema=schema,
    )


def add_traceparent_to_outbox(schema: str) -> None:
    """Under which trace the row was written; processes from before write none."""
    op.add_column(
        "outbox",
        sa.Column("traceparent", sa.Text, nullable=False, server_default=""),
        schema=schema,
    )
