"""A schema with the kit's tables and one of things, beside those of the services."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from services.kit import idempotency, outbox
from services.kit.db import Statement

metadata = sa.MetaData(schema="kit")
idempotency.table(metadata)
outbox_rows = outbox.table(metadata)
things = sa.Table(
    "things",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("text", sa.Text, nullable=False, server_default=""),
    sa.Column("extra", JSONB),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
)

INSERT = Statement(
    sa.insert(things).values(id=sa.bindparam("new_id"), text=sa.bindparam("new_text"))
)
LOCK = Statement(
    sa.select(things).where(things.c.id == sa.bindparam("of_id", type_=sa.Uuid)).with_for_update()
)
COUNT = Statement(sa.select(sa.func.count()).select_from(things))
SLEEP = Statement(sa.select(sa.func.pg_sleep(sa.bindparam("seconds", type_=sa.Float))))
