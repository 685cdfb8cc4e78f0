"""Postgres: the connections of a service, and the transactions of its calls.

A `Transaction` is one RPC's unit of work; it also carries the idempotency key of the call, which is
stored with the effect or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from google.protobuf.message import Message
from sqlalchemy import MetaData

from services.kit import call, idempotency, metrics, sessions
from services.kit.pool import Lent, Pool
from services.kit.sessions import CONNECTION_LOST
from services.kit.statements import Connection, Row, Statement

__all__ = ["Connection", "Database", "Row", "Statement", "Transaction"]

Answer = TypeVar("Answer", bound=Message)
Connect = Callable[[], Awaitable[Any]]
READY_SECONDS = 2.0


class Transaction:
    """One open transaction."""

    __slots__ = (
        "_claimed",
        "_committed",
        "_keys",
        "_replied",
        "changes",
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
        self._committed: list[Callable[[], None]] = []
        self.changes: set[UUID] = set()

    def changed(self, *ids: UUID) -> None:
        """Say what the transaction changes, for those who remember it (`kit.changes`)."""
        self.changes.update(ids)

    def when_committed(self, call: Callable[[], None]) -> None:
        """Have `call` made after the commit, if there is one: for what only looks on."""
        self._committed.append(call)

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

    def __init__(self, pool: Pool, metadata: MetaData, connect: Connect, listen: Connect) -> None:
        self.pool = pool
        self._keys = idempotency.Keys(metadata)
        self._schema = metadata.schema
        self._connect = connect
        self._listen = listen
        self._probe: Any = None
        self._when_changed: Callable[[Collection[UUID]], None] = lambda _: None

    @classmethod
    async def open(
        cls,
        url: str,
        metadata: MetaData,
        *,
        name: str,
        connections: int = 10,
        direct_url: str = "",
        on_query: Callable[[Any], None] | None = None,
    ) -> Database:
        """Prepare a pool; it connects when first used, so a service starts while Postgres is away.

        `metadata` holds the service's tables. `direct_url` is given where `url` is that of a pooler
        in transaction mode: there nobody can listen. `on_query` is called for each statement (tests
        count them). Beside the pool's `connections`, one is used by `ready` and one by each
        `follow`.
        """
        settings = metadata.info.get(sessions.SETTINGS, {})
        options = sessions.pooled(name) if direct_url else sessions.direct(name, **settings)
        pool = await _pool(url, connections, options, on_query)
        metrics.POOL_LIMIT.set(pool.limit)
        metrics.POOL_IN_USE.set_function(lambda: pool.in_use)
        connect = partial(asyncpg.connect, url, **options)
        listen = partial(asyncpg.connect, direct_url or url, **sessions.direct(name))
        return cls(pool, metadata, connect, listen)

    @classmethod
    async def open_replica(
        cls, url: str, metadata: MetaData, *, name: str, connections: int
    ) -> Database:
        """The same for a copy that is only read; metrics do not tell how busy its pool is."""
        settings = metadata.info.get(sessions.SETTINGS, {})
        options = sessions.direct(name, default_transaction_read_only="on", **settings)
        pool = await _pool(url, connections, options)
        connect = partial(asyncpg.connect, url, **options)
        return cls(pool, metadata, connect, connect)

    async def close(self) -> None:
        """Give the connections back; what still runs on them is ended after 5 s."""
        if self._probe is not None:
            self._probe.terminate()
        await self.pool.close()

    async def ready(self) -> bool:
        """Whether Postgres answers, within 2 s, and the schema is there.

        It asks on a connection of its own: a busy service, whose pool is lent out, is ready.
        """
        try:
            async with asyncio.timeout(READY_SECONDS):
                if self._probe is None or self._probe.is_closed():
                    self._probe = await self._connect()
                there = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $1)"
                return bool(await self._probe.fetchval(there, self._schema))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, *CONNECTION_LOST):
            if self._probe is not None:
                self._probe.terminate()
            return False

    def connection(self) -> Lent:
        """A connection for reads of one statement.

        Raises RESOURCE_EXHAUSTED if none comes free, UNAVAILABLE if Postgres does not answer.
        """
        return self.pool.connection()

    @asynccontextmanager
    async def statement(self, changes: Collection[UUID] = ()) -> AsyncIterator[Any]:
        """A connection for a write of one statement, which is a transaction by itself.

        It has no part in the call's idempotency key. `changes` is what `Transaction.changed` takes.
        """
        try:
            async with self.connection() as connection:
                yield connection
        finally:
            # Also when it failed: a commit may have come through, and its answer not.
            if changes:
                self._when_changed(changes)
        current = call.current_or_none()
        if current is not None:
            current.committed = True

    @asynccontextmanager
    async def transaction(self, *, keyed: bool = True) -> AsyncIterator[Transaction]:
        """One transaction (READ COMMITTED): committed at the end, rolled back if anything raises.

        The first transaction of a call that came with an idempotency key stores the key with its
        effect, so its answer has to be given by `tx.reply`. A key that was used before raises
        `idempotency.Replay`. `keyed=False` leaves the key alone: for answers that must not be
        stored, such as tokens.
        """
        current = call.current_or_none()
        claim = current.claim if current is not None and keyed else None
        async with self.connection() as connection:
            tx = Transaction(connection, self._keys)
            try:
                async with connection.transaction():
                    if claim is not None:
                        await tx._begin(claim)
                    yield tx
                    await tx._end()
            finally:
                # Also when it failed: a commit may have come through, and its answer not.
                if tx.changes:
                    self._when_changed(tx.changes)
        for done in tx._committed:
            done()
        if current is not None:
            current.committed = True
            if claim is not None:
                current.claim = None

    def when_changed(self, tell: Callable[[Collection[UUID]], None]) -> None:
        """Have `tell(ids)` called at the end of each transaction that noted changes."""
        self._when_changed = tell

    async def forget_old_keys(self) -> None:
        """Remove the idempotency keys that are older than 24 hours; for a background task."""
        before = datetime.now(UTC) - idempotency.REMEMBERED
        removed = idempotency.FORGOTTEN_AT_ONCE
        while removed == idempotency.FORGOTTEN_AT_ONCE:
            async with self.connection() as connection:
                removed = await self._keys.forget_old(connection, before)

    async def follow(
        self, channel: str, *, heard: Callable[[str], None], joined: Callable[[], None]
    ) -> None:
        """Have `heard(payload)` called for each NOTIFY on `channel`, until the connection is lost.

        The connection is one of its own. `joined` is called when it stands: what was notified
        before is not heard.
        """
        gone = asyncio.Event()
        connection = await self._listen()
        try:
            connection.add_termination_listener(lambda _: gone.set())
            await connection.add_listener(channel, lambda *event: heard(event[3]))
            joined()
            await gone.wait()
        finally:
            connection.terminate()


async def _pool(
    url: str,
    connections: int,
    options: dict[str, Any],
    on_query: Callable[[Any], None] | None = None,
) -> Pool:
    async def prepare(connection: Any) -> None:
        await sessions.prepare(connection)
        if on_query is not None:
            connection.add_query_logger(on_query)

    return await Pool.open(url, options, connections=connections, prepare=prepare)
