"""The outbox: what must happen after a commit, written with it, delivered at least once.

A row names a topic; the relay gives its payload to the topic's function, and tries again with
growing pauses until that succeeds. So the functions have to be idempotent. Several relays may run:
a row is leased to one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.kit import logs, metrics
from services.kit.db import Database, Statement
from services.kit.ids import uuid7

log = logs.logger("outbox")

TABLE = "outbox"
BATCH = 50
LEASE = timedelta(seconds=30)
DELIVERY_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 300.0
POLL_SECONDS = 2.0

Deliver = Callable[[bytes], Awaitable[None]]


def table(metadata: sa.MetaData) -> sa.Table:
    """The outbox of a service's schema."""
    moment = sa.TIMESTAMP(timezone=True)
    return sa.Table(
        TABLE,
        metadata,
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("last_error", sa.Text, nullable=False, server_default=""),
        sa.Column("next_attempt_time", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("create_time", moment, nullable=False, server_default=sa.func.now()),
        sa.Index(f"{TABLE}_next_attempt_time", "next_attempt_time"),
    )


class Outbox:
    """The statements on a service's outbox."""

    def __init__(self, metadata: sa.MetaData) -> None:
        rows = metadata.tables[f"{metadata.schema}.{TABLE}"]
        self.channel = f"{metadata.schema}_outbox"
        written = (
            insert(rows)
            .values({name: sa.bindparam(name) for name in ("id", "topic", "payload")})
            .returning(rows.c.id)
            .cte("written")
        )
        # The wake-up is part of the transaction: it is sent by the commit, or not at all.
        self._add = Statement(sa.select(sa.func.pg_notify(self.channel, "")).select_from(written))
        due = (
            sa.select(rows.c.id)
            .where(rows.c.next_attempt_time <= sa.func.clock_timestamp())
            .order_by(rows.c.next_attempt_time)
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        )
        self._lease = Statement(
            sa.update(rows)
            .where(rows.c.id.in_(due))
            .values(
                attempts=rows.c.attempts + 1,
                next_attempt_time=sa.func.clock_timestamp()
                + sa.bindparam("lease", type_=sa.Interval),
            )
            .returning(rows)
        )
        self._delivered = Statement(sa.delete(rows).where(rows.c.id == sa.bindparam("id")))
        self._failed = Statement(
            sa.update(rows)
            .where(rows.c.id == sa.bindparam("row_id"))
            .values(
                last_error=sa.bindparam("error"),
                next_attempt_time=sa.func.clock_timestamp()
                + sa.bindparam("pause", type_=sa.Interval),
            )
        )

    async def add(self, tx: Any, topic: str, payload: bytes) -> None:
        """Have `payload` delivered to `topic` once the transaction has committed."""
        await self._add.run(tx, id=uuid7(), topic=topic, payload=payload)

    async def lease(self, connection: Any) -> list[Any]:
        """Up to 50 rows that are due, now nobody else's for 30 s."""
        return await self._lease.all(connection, lease=LEASE)

    async def delivered(self, connection: Any, row: Any) -> None:
        """Forget a row."""
        await self._delivered.run(connection, id=row["id"])

    async def failed(self, connection: Any, row: Any, error: str) -> None:
        """Have a row tried again, after a pause that doubles each time, up to 5 min."""
        pause = min(0.5 * 2 ** min(row["attempts"], 20), LONGEST_PAUSE_SECONDS)
        await self._failed.run(
            connection,
            row_id=row["id"],
            error=error,
            pause=timedelta(seconds=pause * random.uniform(0.8, 1.2)),  # noqa: S311 - jitter
        )


class Relay:
    """Delivers a service's outbox; run `forever` as a background task."""

    def __init__(self, database: Database, outbox: Outbox, topics: Mapping[str, Deliver]) -> None:
        self._database = database
        self._outbox = outbox
        self._topics = topics
        self._wake = asyncio.Event()

    async def forever(self) -> None:
        """Deliver what is due, then sleep until a commit or the next poll."""
        listener = asyncio.create_task(self._listen())
        try:
            while True:
                # Cleared before looking: a row committed while we look wakes us again.
                self._wake.clear()
                if await self.deliver_due():
                    continue
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)
        finally:
            listener.cancel()

    async def deliver_due(self) -> int:
        """Deliver one batch; how many rows it had."""
        async with self._database.connection() as connection:
            rows = await self._outbox.lease(connection)
        await asyncio.gather(*(self._deliver(row) for row in rows))
        return len(rows)

    async def _deliver(self, row: Any) -> None:
        topic = row["topic"]
        try:
            async with asyncio.timeout(DELIVERY_SECONDS):
                await self._topics[topic](row["payload"])
        except Exception as error:
            metrics.OUTBOX_FAILED.labels(topic).inc()
            name = type(error).__name__
            log.warning("delivery failed", topic=topic, attempts=row["attempts"], error=name)
            async with self._database.connection() as connection:
                await self._outbox.failed(connection, row, name)
            return
        async with self._database.connection() as connection:
            await self._outbox.delivered(connection, row)
        metrics.OUTBOX_DELIVERED.labels(topic).inc()
        metrics.OUTBOX_LAG.observe((datetime.now(UTC) - row["create_time"]).total_seconds())

    async def _listen(self) -> None:
        """Hold the connection that commits wake us by; without it, polling goes on."""
        while True:
            try:
                connection = await self._database.listen(
                    self._outbox.channel, lambda _: self._wake.set()
                )
                try:
                    await _end_of(connection)
                finally:
                    await connection.close(timeout=1)
            except Exception as error:
                log.debug("not listening", error=type(error).__name__)
            await asyncio.sleep(1)


async def _end_of(connection: Any) -> None:
    gone = asyncio.Event()
    connection.add_termination_listener(lambda _: gone.set())
    await gone.wait()
