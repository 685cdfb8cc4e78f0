"""Postgres: the connections of a service, and the transactions of its calls.

A `Transaction` is one RPC's unit of work; it also carries the idempotency key of the call, which is
stored with the effect or not at all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import asyncpg
from google.protobuf.message import Message
from sqlalchemy import MetaData

from services.kit import call, errors, idempotency, metrics
from services.kit.statements import Connection, Row, Statement

__all__ = ["Connection", "Database", "Row", "Statement", "Transaction"]

Answer = TypeVar("Answer", bound=Message)
ACQUIRE_SECONDS = 1.5
CONNECT_SECONDS = 3.0
SESSION = {
    "statement_timeout": "3s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "5s",
    "jit": "off",
}


class Transaction:
    """One open transaction."""

    __slots__ = (
        "_claimed",
        "_keys",
        "_replied",
        "connection",
        "execute",
        "fetch",
        "fetchrow",
        "fetchval",
    )

    def __init__(self, connection: Any, keys: idempotency.Keys) -> None:
        self.connection = connection
        self.fetch = connection.fetch
        self.fetchrow = connection.fetchrow
        self.fetchval = connection.fetchval
        self.execute = connection.execute
        self._keys = keys
        self._claimed: call.Claim | None = None
        self._replied: tuple[bytes, str, str] | None = None

    def reply(self, answer: Answer, *, location: str = "", subject: Any = "") -> Answer:
        """Say what the call answers, inside the transaction: a repeated call will get the same.

        `location` is the new resource's path: the REST answer becomes 201 with that header.
        `subject` is the id of the user whom the answer tells about, when that is not the caller:
        erasing them erases it.
        """
        current = call.current()
        current.location = location
        if self._claimed is not None:
            self._replied = (answer.SerializeToString(), location, str(subject))
        return answer

    async def _begin(self, claim: call.Claim) -> None:
        self._claimed = claim
        await self._keys.claim(self, claim)

    async def _end(self) -> None:
        if self._claimed is None:
            return
        if self._replied is None:
            raise RuntimeError(f"{self._claimed.method} did not say what it answers: tx.reply(…)")
        await self._keys.store(self, self._claimed, *self._replied)


class Database:
    """The connections of one service process to its schema."""

    def __init__(
        self, pool: asyncpg.Pool, keys: idempotency.Keys, url: str, session: dict[str, str]
    ) -> None:
        self._pool = pool
        self._keys = keys
        self._url = url
        self._session = session

    @classmethod
    async def open(
        cls,
        url: str,
        metadata: MetaData,
        *,
        name: str,
        connections: int = 10,
        on_query: Callable[[Any], None] | None = None,
    ) -> Database:
        """Prepare a pool; it connects when first used, so a service starts while Postgres is away.

        `metadata` holds the service's tables. `on_query` is called for each statement (tests count
        them).
        """

        async def prepare(connection: Any) -> None:
            for kind in ("json", "jsonb"):
                await connection.set_type_codec(
                    kind, schema="pg_catalog", encoder=json.dumps, decoder=json.loads
                )
            if on_query is not None:
                connection.add_query_logger(on_query)

        async def leave_as_it_is(connection: Any) -> None:
            """No session state is ever set outside a transaction, so there is nothing to reset."""

        session = {"application_name": name, **SESSION}
        pool = await asyncpg.create_pool(
            url,
            min_size=0,
            max_size=connections,
            max_inactive_connection_lifetime=0,
            timeout=CONNECT_SECONDS,
            init=prepare,
            reset=leave_as_it_is,
            server_settings=session,
        )
        return cls(pool, idempotency.Keys(metadata), url, session)

    async def close(self) -> None:
        """Give the connections back; what still runs on them is ended after 5 s."""
        try:
            await asyncio.wait_for(self._pool.close(), 5)
        except TimeoutError:
            self._pool.terminate()

    async def ready(self) -> bool:
        """Whether Postgres answers, and within 2 s."""
        try:
            async with asyncio.timeout(2):
                async with self.connection() as connection:
                    return await connection.fetchval("SELECT true") is True
        except (errors.ServiceError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            return False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection for reads of one statement. Raises RESOURCE_EXHAUSTED if none comes free."""
        try:
            connection = await self._pool.acquire(timeout=ACQUIRE_SECONDS)
        except TimeoutError:
            metrics.POOL_REFUSED.inc()
            raise errors.overloaded() from None
        metrics.POOL_IN_USE.inc()
        try:
            yield connection
        finally:
            metrics.POOL_IN_USE.dec()
            await self._pool.release(connection)

    @asynccontextmanager
    async def transaction(self, *, keyed: bool = True) -> AsyncIterator[Transaction]:
        """One transaction (READ COMMITTED): committed at the end, rolled back if anything raises.

        The first transaction of a call that came with an idempotency key stores the key with its
        effect, so its answer has to be given by `tx.reply`. A key that was used before raises
        `idempotency.Replay`. `keyed=False` leaves the key alone: for answers that must not be
        stored, such as tokens.
        """
        current = call.current_or_none() if keyed else None
        claim = current.claim if current is not None else None
        async with self.connection() as connection, connection.transaction():
            tx = Transaction(connection, self._keys)
            if claim is not None:
                await tx._begin(claim)
            yield tx
            await tx._end()
        if current is not None:
            current.claim = None

    async def forget_old_keys(self) -> None:
        """Remove the idempotency keys that are older than 24 hours; for a background task."""
        before = datetime.now(UTC) - idempotency.REMEMBERED
        removed = idempotency.FORGOTTEN_AT_ONCE
        while removed == idempotency.FORGOTTEN_AT_ONCE:
            async with self.connection() as connection:
                removed = await self._keys.forget_old(connection, before)

    async def listen(self, channel: str, heard: Callable[[str], None]) -> Any:
        """A connection of its own that calls `heard(payload)` for each NOTIFY on `channel`.

        It is the caller's to close.
        """
        connection = await asyncpg.connect(
            self._url, timeout=CONNECT_SECONDS, server_settings=self._session
        )
        await connection.add_listener(channel, lambda *event: heard(event[3]))
        return connection
