"""The tables of users, as its statements and migrations see them.

What the database itself refuses: two users with one e-mail address, whatever the case of its
letters, a role that there is not, and two live tokens of a user for one purpose.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from services.kit import idempotency, outbox

metadata = sa.MetaData(
    schema="users",
    naming_convention={"fk": "%(table_name)s_%(column_0_name)s_fkey", "pk": "%(table_name)s_pkey"},
)

Moment = sa.TIMESTAMP(timezone=True)


def _life() -> list[sa.Column[object]]:
    """The columns of a mutable resource: its version (the etag) and its times."""
    return [
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("create_time", Moment, nullable=False, server_default=sa.func.now()),
        sa.Column("update_time", Moment, nullable=False, server_default=sa.func.now()),
    ]


def _user_id() -> sa.Column[object]:
    return sa.Column("user_id", sa.Uuid, sa.ForeignKey("users.users.id"), nullable=False)


# A deleted user is a row without anything personal: the id stays, so that orders keep their key.
users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    # Null once deleted, so that the address is free again. Byte order, so that prefixes are ranges.
    sa.Column("email", sa.Text(collation="C")),
    sa.Column("email_key", sa.Text(collation="C"), sa.Computed("lower(email)", persisted=True)),
    sa.Column("password_hash", sa.Text, nullable=False),
    sa.Column("full_name", sa.Text, nullable=False),
    sa.Column("phone", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("email_verified", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("disabled", sa.Boolean, nullable=False, server_default=sa.false()),
    *_life(),
    sa.Column("delete_time", Moment),
    sa.CheckConstraint("role IN ('CUSTOMER', 'STAFF', 'ADMIN')", name="users_role"),
    sa.CheckConstraint("(email IS NULL) = (delete_time IS NOT NULL)", name="users_deleted"),
    sa.Index("users_email_key", "email_key", unique=True),
    sa.Index("users_role_email_key", "role", "email_key"),
    sa.Index("users_changed", "update_time", postgresql_where=sa.text("version > 1")),
)

addresses = sa.Table(
    "addresses",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    _user_id(),
    # google.type.PostalAddress as proto3 JSON with the proto's own field names.
    sa.Column("postal_address", JSONB, nullable=False),
    sa.Column("phone", sa.Text, nullable=False),
    *_life(),
    sa.Index("addresses_user_id", "user_id", "id"),
)

# A session is a family of refresh tokens, of which the last one is good. Its end removes the row.
sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    _user_id(),
    # What all refresh tokens of the session begin with, and the SHA-256 of the one that is good.
    sa.Column("family", sa.LargeBinary, nullable=False),
    sa.Column("token_hash", sa.LargeBinary, nullable=False),
    sa.Column("create_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.Column("expire_time", Moment, nullable=False),
    sa.Index("sessions_family", "family", unique=True),
    sa.Index("sessions_user_id", "user_id"),
    sa.Index("sessions_expire_time", "expire_time"),
)

# Tokens that travel by mail: a new one takes the place of the old.
mail_tokens = sa.Table(
    "mail_tokens",
    metadata,
    sa.Column("user_id", sa.Uuid, sa.ForeignKey("users.users.id"), primary_key=True),
    sa.Column("purpose", sa.Text, primary_key=True),
    sa.Column("token_hash", sa.LargeBinary, nullable=False),
    sa.Column("expire_time", Moment, nullable=False),
    sa.CheckConstraint("purpose IN ('VERIFY_EMAIL', 'RESET_PASSWORD')", name="mail_tokens_purpose"),
    sa.Index("mail_tokens_token_hash", "token_hash", unique=True),
    sa.Index("mail_tokens_expire_time", "expire_time"),
)

# When things were tried that may only be tried so often, newest first. The subject is a hash, of an
# e-mail address for example, because addresses that nobody has are counted too.
attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("subject", sa.LargeBinary, primary_key=True),
    sa.Column("times", ARRAY(Moment), nullable=False),
    sa.Column("update_time", Moment, nullable=False, server_default=sa.func.now()),
    sa.Index("attempts_update_time", "update_time"),
)

idempotency_keys = idempotency.table(metadata)
outbox_rows = outbox.table(metadata)
