"""Alembic's environment, one for all services; `cli.migrate` says which and on what connection."""

from __future__ import annotations

from typing import Any

from alembic import context

asked = context.config.attributes
service: str = asked["service"]
options: dict[str, Any] = {
    "version_table_schema": service,
    "include_schemas": True,
    "include_name": lambda name, kind, _: kind != "schema" or name == service,
    "target_metadata": asked.get("metadata"),
    "transaction_per_migration": True,
    "on_version_apply": asked.get("on_version_apply"),
}
if "connection" in asked:
    context.configure(connection=asked["connection"], **options)
else:
    context.configure(dialect_name="postgresql", literal_binds=True, **options)

with context.begin_transaction():
    context.run_migrations()
