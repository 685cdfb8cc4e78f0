"""Operations for tables that are in use: none of them makes calls wait."""

from __future__ import annotations

from alembic import op


def create_index_concurrently(
    name: str, table: str, columns: str, *, schema: str, unique: bool = False, where: str = ""
) -> None:
    """An index on a table with rows; `columns` is SQL, as `USING gin (attributes)` or `(email)`.

    It is the only operation of its migration. What an interrupted try left is removed first.
    """
    kind = "UNIQUE INDEX" if unique else "INDEX"
    condition = f" WHERE {where}" if where else ""
    with op.get_context().autocommit_block():
        # Building waits for transactions that began earlier; nobody waits for it.
        op.execute("SET lock_timeout = 0")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema}.{name}")
        op.execute(
            f"CREATE {kind} CONCURRENTLY IF NOT EXISTS {name}"
            f" ON {schema}.{table} {columns}{condition}"
        )
        op.execute("RESET lock_timeout")


def drop_index_concurrently(name: str, *, schema: str) -> None:
    """Remove an index that nothing needs any longer, unless that is done already."""
    with op.get_context().autocommit_block():
        # Like building, it waits for earlier transactions, and nobody for it.
        op.execute("SET lock_timeout = 0")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema}.{name}")
        op.execute("RESET lock_timeout")
