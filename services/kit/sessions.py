"""How connections to Postgres are made: what each session is told, directly or through a pooler.

A pooler in transaction mode (PgBouncer) lends a server's session for one transaction. It knows no
statement that was prepared before, and takes no settings: the role has them (`shop migrate`).
"""

from __future__ import annotations

from typing import Any

import asyncpg
import msgspec

CONNECT_SECONDS = 3.0
SESSION = {
    "statement_timeout": "3s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "5s",
    "jit": "off",
    # Statements are short: a second process for one of them costs more than it wins.
    "max_parallel_workers_per_gather": "0",
    # Enough for the bitmap of an index over a million rows to stay exact.
    "work_mem": "16MB",
}
# Where the `info` of a service's tables has what its sessions are told beside.
SETTINGS = "session"
# What Postgres, or the network, says about a connection that is no more.
CONNECTION_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    # ... between Postgres's last word and the end of the connection; or of a URL with several
    # hosts, none of which is the primary now.
    asyncpg.InternalClientError,
)


def direct(name: str, **more: str) -> dict[str, Any]:
    """How to connect to Postgres itself, under this `application_name`."""
    return {
        "timeout": CONNECT_SECONDS,
        "server_settings": {"application_name": name, **SESSION, **more},
    }


def pooled(name: str) -> dict[str, Any]:
    """How to connect through a pooler in transaction mode.

    Statements are not named, so none is kept; a look-up is parsed and planned anew each time.
    """
    return {
        "timeout": CONNECT_SECONDS,
        "server_settings": {"application_name": name},
        "statement_cache_size": 0,
    }


async def prepare(connection: Any) -> None:
    """What every connection is told once: JSON is read and written as it goes over the wire."""
    encode, decode = msgspec.json.encode, msgspec.json.decode
    # A version stands before jsonb.
    for kind, encoder, decoder in (
        ("json", encode, decode),
        ("jsonb", lambda value: b"\x01" + encode(value), lambda raw: decode(raw[1:])),
    ):
        await connection.set_type_codec(
            kind, schema="pg_catalog", encoder=encoder, decoder=decoder, format="binary"
        )
