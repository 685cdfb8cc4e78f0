"""Users as they begin: accounts, addresses, sessions, mailed tokens, counted attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from migrations.kit_tables import create_idempotency_keys, create_outbox

revision = "0001"
down_revision = None

moment = sa.TIMESTAMP(timezone=True)


def _life() -> list[sa.Column[object]]:
    return [
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("create_time", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("update_time", moment, nullable=False, server_default=sa.func.now()),
    ]


def _user_id(table: str, *, primary_key: bool = False) -> sa.Column[object]:
    key = sa.ForeignKey("users.users.id", name=f"{table}_user_id_fkey")
    return sa.Column("user_id", sa.Uuid, key, nullable=False, primary_key=primary_key)


def upgrade() -> None:
    """All tables are new, so nothing has to be done concurrently."""
    _create_users()
    _create_addresses()
    _create_sessions()
    _create_mail_tokens()
    _create_attempts()
    create_idempotency_keys("users")
    create_outbox("users")


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("email", sa.Text(collation="C")),
        sa.Column("email_key", sa.Text(collation="C"), sa.Computed("lower(email)", persisted=True)),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("full_name", sa.Text, nullable=False),
        sa.Column("phone", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("email_verified", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("disabled", sa.Boolean, nullable=False, server_default=sa.false()),
        *_life(),
        sa.Column("delete_time", moment),
        sa.CheckConstraint("role IN ('CUSTOMER', 'STAFF', 'ADMIN')", name="users_role"),
        sa.CheckConstraint("(email IS NULL) = (delete_time IS NOT NULL)", name="users_deleted"),
        sa.Index("users_email_key", "email_key", unique=True),
        sa.Index("users_role_email_key", "role", "email_key"),
        schema="users",
    )


def _create_addresses() -> None:
    op.create_table(
        "addresses",
        sa.Column("id", sa.Uuid, primary_key=True),
        _user_id("addresses"),
        sa.Column("postal_address", JSONB, nullable=False),
        sa.Column("phone", sa.Text, nullable=False),
        *_life(),
        sa.Index("addresses_user_id", "user_id", "id"),
        schema="users",
    )


def _create_sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid, primary_key=True),
        _user_id("sessions"),
        sa.Column("family", sa.LargeBinary, nullable=False),
        sa.Column("token_hash", sa.LargeBinary, nullable=False),
        sa.Column("create_time", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("expire_time", moment, nullable=False),
        sa.Index("sessions_family", "family", unique=True),
        sa.Index("sessions_user_id", "user_id"),
        sa.Index("sessions_expire_time", "expire_time"),
        schema="users",
    )


def _create_mail_tokens() -> None:
    op.create_table(
        "mail_tokens",
        _user_id("mail_tokens", primary_key=True),
        sa.Column("purpose", sa.Text, primary_key=True),
        sa.Column("token_hash", sa.LargeBinary, nullable=False),
        sa.Column("expire_time", moment, nullable=False),
        sa.CheckConstraint(
            "purpose IN ('VERIFY_EMAIL', 'RESET_PASSWORD')", name="mail_tokens_purpose"
        ),
        sa.Index("mail_tokens_token_hash", "token_hash", unique=True),
        sa.Index("mail_tokens_expire_time", "expire_time"),
        schema="users",
    )


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("subject", sa.LargeBinary, primary_key=True),
        sa.Column("times", ARRAY(moment), nullable=False),
        sa.Column("update_time", moment, nullable=False, server_default=sa.func.now()),
        sa.Index("attempts_update_time", "update_time"),
        schema="users",
    )
