"""`shop verify`: does the data of the shop hold what it should?

All rules of a database are looked at in one snapshot, read only; nothing is locked and no call
waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from cli.database import Databases, connect
from cli.invariants import INVARIANTS, Invariant

# Of the rows that break a rule, so many are shown.
MOST_ROWS = 20
TIMEOUT = "5min"


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one rule: the rows that break it, or why it could not be looked at."""

    invariant: Invariant
    rows: list[Any]
    seconds: float
    skipped: str = ""


async def verify(databases: Databases, at: datetime | None = None) -> list[Finding]:
    """Look at every rule, as of now or, for data that were restored, as of when they were kept.

    Raises StartError when a database cannot be reached.
    """
    findings = []
    for url, schemas in _places(databases):
        connection = await connect(url, statement_timeout=TIMEOUT)
        try:
            transaction = connection.transaction(isolation="repeatable_read", readonly=True)
            async with transaction:
                there = await _schemas_with_tables(connection)
                here = [one for one in INVARIANTS if set(one.schemas) <= schemas & there]
                findings += [await _look(connection, invariant, at) for invariant in here]
        finally:
            await connection.close()
    seen = {finding.invariant for finding in findings}
    findings += [
        Finding(invariant, [], 0, "its schemas are not in one database")
        for invariant in INVARIANTS
        if invariant not in seen
    ]
    return findings


def show(findings: list[Finding], console: Console) -> bool:
    """Print what was found; whether everything holds."""
    broken = [finding for finding in findings if finding.rows]
    for finding in findings:
        took = f"[dim]{finding.seconds * 1000:7.1f} ms[/]"
        if finding.skipped:
            console.print(f"[yellow]skip[/] {took}  {finding.invariant.name}: {finding.skipped}")
        elif finding.rows:
            console.print(f"[bold red]FAIL[/] {took}  {finding.invariant.name}")
            console.print(_table(finding.rows))
        else:
            console.print(f"[green] ok [/] {took}  {finding.invariant.name}")
    looked = sum(1 for finding in findings if not finding.skipped)
    console.print(f"{looked - len(broken)} of {looked} rules hold.")
    return not broken


async def _look(
    connection: asyncpg.Connection, invariant: Invariant, at: datetime | None
) -> Finding:
    began = time.perf_counter()
    sql = invariant.sql
    if at is not None:
        sql = sql.replace("now()", f"timestamptz '{at.isoformat()}'")
    rows = await connection.fetch(f"SELECT * FROM ({sql}) broken LIMIT {MOST_ROWS + 1}")
    return Finding(invariant, rows, time.perf_counter() - began)


async def _schemas_with_tables(connection: asyncpg.Connection) -> set[str]:
    rows = await connection.fetch("SELECT DISTINCT schemaname FROM pg_tables")
    return {row["schemaname"] for row in rows}


def _places(databases: Databases) -> Iterator[tuple[str, set[str]]]:
    for place in databases.places():
        yield place.url, set(place.services)


def _table(rows: list[Any]) -> Table:
    table = Table(*rows[0].keys(), show_edge=False)
    for row in rows[:MOST_ROWS]:
        table.add_row(*(str(value) for value in row.values()))
    if len(rows) > MOST_ROWS:
        table.add_row("… and more")
    return table
