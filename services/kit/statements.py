"""SQL statements: SQLAlchemy Core writes them, once; asyncpg runs them.

A `Statement` is a Core expression compiled when it is defined into SQL text and the order of its
parameters. Running it costs what asyncpg costs (DECISIONS.md has the figures).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import asyncpg
import sqlalchemy as sa
from sqlalchemy import JSON, ClauseElement, ColumnElement, func, literal_column
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

Row = asyncpg.Record
_DIALECT: Any = PGDialect_asyncpg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


class Connection(Protocol):
    """What a statement needs: an asyncpg connection, or a `Transaction`."""

    async def fetch(self, query: str, *args: Any) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: Any) -> Any: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...
    async def execute(self, query: str, *args: Any) -> str: ...


def json_object(columns: Mapping[str, ColumnElement[Any]]) -> ColumnElement[Any]:
    """A row as one JSON value, so that a resource and its parts are one row of one statement."""
    parts: list[ColumnElement[Any]] = []
    for name, column in columns.items():
        parts += [literal_column(f"'{name}'"), column]
    return func.json_build_object(*parts, type_=JSON)


def rows(name: str, **types: sa.types.TypeEngine[Any]) -> Any:
    """A table made of parameters: for each column an array named `<name>_<column>`.

    The arrays stand in subqueries. Without, Postgres would see their lengths when it plans, and
    plan each call anew for the length it has, which takes longer than to run it.
    """
    arrays = (
        sa.select(sa.bindparam(f"{name}_{column}", type_=ARRAY(of))).scalar_subquery()
        for column, of in types.items()
    )
    columns = (sa.column(column, of) for column, of in types.items())
    return sa.func.unnest(*arrays).table_valued(*columns, name=name).render_derived()


class Fields(Protocol):
    """A row, or anything else that is read by the names of columns."""

    def __getitem__(self, name: str, /) -> Any: ...


class Statement:
    """A Core expression, compiled once.

    Lists go in as `= ANY(:ids)`: `IN (…)` would need a new text for each length.
    """

    __slots__ = ("_names", "_order", "sql")

    def __init__(self, expression: ClauseElement) -> None:
        compiled: Any = expression.compile(dialect=_DIALECT)
        names = compiled.positiontup or []
        literals = compiled.params
        if compiled.post_compile_params or compiled.literal_execute_params:
            raise ValueError("the statement's text depends on its parameters: use ANY(array)")
        self.sql: str = compiled.string
        required = {key for key, bind in compiled.binds.items() if bind.required}
        # A parameter with a value in the expression (LIMIT 1, a constant) keeps it.
        self._order = [(name, name in required, literals.get(name)) for name in names]
        self._names = frozenset(names)

    def arguments(self, values: dict[str, Any]) -> list[Any]:
        """`values` in the order of `$1, $2, …`. Raises TypeError for a missing or extra name."""
        try:
            arguments = [
                values[name] if required else values.get(name, literal)
                for name, required, literal in self._order
            ]
        except KeyError as error:
            raise TypeError(f"the statement needs the parameter {error}") from None
        if not self._names.issuperset(values):
            raise TypeError(f"the statement takes only {sorted(self._names)}")
        return arguments

    async def all(self, connection: Connection, /, **values: Any) -> list[Row]:
        """Every row."""
        return await connection.fetch(self.sql, *self.arguments(values))

    async def first(self, connection: Connection, /, **values: Any) -> Row | None:
        """The first row, or None."""
        row: Row | None = await connection.fetchrow(self.sql, *self.arguments(values))
        return row

    async def one(self, connection: Connection, /, **values: Any) -> Row:
        """The first row of a statement that always has one (INSERT … RETURNING)."""
        row: Row | None = await connection.fetchrow(self.sql, *self.arguments(values))
        if row is None:
            raise LookupError("the statement returned no row")
        return row

    async def value(self, connection: Connection, /, **values: Any) -> Any:
        """The first column of the first row, or None."""
        return await connection.fetchval(self.sql, *self.arguments(values))

    async def run(self, connection: Connection, /, **values: Any) -> int:
        """The number of rows it touched."""
        status = await connection.execute(self.sql, *self.arguments(values))
        return int(status.rpartition(" ")[2])
