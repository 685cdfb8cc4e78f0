"""All state of the sandbox, in SQLite: a file outlives the process, `:memory:` does not.

Objects are kept as the JSON that the API shows. `trait` holds what the API does not show of one
(the test card behind a PaymentMethod), `parent` the PaymentIntent that it belongs to.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    created INTEGER NOT NULL,
    parent TEXT,
    trait TEXT,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS objects_by_kind ON objects (kind, place);
CREATE INDEX IF NOT EXISTS objects_by_parent ON objects (parent, kind, place);
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY,
    path TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL,
    request_id TEXT NOT NULL,
    created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL,
    subject TEXT NOT NULL,
    due REAL NOT NULL,
    expires REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'pending',
    answer TEXT
);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due, id) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS deliveries_by_event ON deliveries (event);
CREATE TABLE IF NOT EXISTS errands (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    due REAL NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
TABLES = ("objects", "answers", "deliveries", "errands", "facts")


class Store:
    """One connection, used by one thread, and never across an await: no two requests mix."""

    def __init__(self, path: str = ":memory:") -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.row_factory = sqlite3.Row
        # The operating system keeps what a killed process wrote; only a power cut could lose it.
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        self.connection.executescript(SCHEMA)

    def close(self) -> None:
        self.connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside happens, or, when it raises, nothing does."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of a transaction that can be undone by itself."""
        self.connection.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK TO part")
            self.connection.execute("RELEASE part")
            raise
        self.connection.execute("RELEASE part")

    def clear(self) -> None:
        """Forget everything."""
        with self.transaction():
            for table in TABLES:
                self.connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours

    def rows(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        return self.connection.execute(statement, values).fetchall()

    def row(self, statement: str, *values: Any) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self.connection.execute(statement, values).fetchone()
        return found

    def run(self, statement: str, *values: Any) -> int:
        """Run a statement; answers how many rows it changed."""
        return self.connection.execute(statement, values).rowcount

    # --- objects ----------------------------------------------------------------------------------

    def add(self, body: Object, *, parent: str | None = None, trait: str | None = None) -> Object:
        self.run(
            "INSERT INTO objects (id, kind, created, parent, trait, body) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            *(body["id"], body["object"], body["created"], parent, trait, json.dumps(body)),
        )
        return body

    def save(self, body: Object) -> Object:
        self.run("UPDATE objects SET body = ? WHERE id = ?", json.dumps(body), body["id"])
        return body

    def find(self, kind: str, id: str) -> Object | None:
        found = self.row("SELECT body FROM objects WHERE id = ? AND kind = ?", id, kind)
        return None if found is None else json.loads(found["body"])

    def get(self, kind: str, id: str) -> Object:
        """The object; KeyError when there is none."""
        body = self.find(kind, id)
        if body is None:
            raise KeyError(id)
        return body

    def trait(self, id: str) -> str | None:
        found = self.row("SELECT trait FROM objects WHERE id = ?", id)
        return None if found is None else found["trait"]

    def of(self, parent: str, kind: str) -> list[Object]:
        """What belongs to a PaymentIntent, oldest first."""
        found = self.rows(
            "SELECT body FROM objects WHERE parent = ? AND kind = ? ORDER BY place", parent, kind
        )
        return [json.loads(each["body"]) for each in found]

    # --- facts ------------------------------------------------------------------------------------

    def fact(self, name: str) -> str | None:
        found = self.row("SELECT value FROM facts WHERE name = ?", name)
        return None if found is None else found["value"]

    def set_fact(self, name: str, value: str) -> None:
        self.run(
            "INSERT OR REPLACE INTO facts VALUES (?, ?)",
            *(name, value),
        )
