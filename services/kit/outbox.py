"""The outbox: what must happen after a commit, written with it, delivered at least once.

A row names a topic; the relay gives its payload to the topic's function, and tries again with
growing pauses until that succeeds. So the functions have to be idempotent. Several relays may run:
a row is leased to one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from services.kit import failures, logs, metrics, tracing
from services.kit.batches import Batch
from services.kit.db import Connection, Database, Row, Statement
from services.kit.errors import ServiceError
from services.kit.ids import uuid7
from services.kit.tasks import every, forever

log = logs.logger("outbox")

TABLE = "outbox"
BATCH = 50
DELIVERY_SECONDS = 10.0
# Longer than a delivery takes; what a dead relay held waits for so long.
LEASE = timedelta(seconds=15)
LONGEST_PAUSE_SECONDS = 300.0
POLL_SECONDS = 2.0
MEASURE_SECONDS = 10.0
ADDED = ("id", "topic", "payload", "traceparent")

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
        sa.Column("traceparent", sa.Text, nullable=False, server_default=""),
        sa.Index(f"{TABLE}_next_attempt_time", "next_attempt_time"),
    )


class Outbox:
    """The statements on a service's outbox."""

    def __init__(self, metadata: sa.MetaData) -> None:
        rows = metadata.tables[f"{metadata.schema}.{TABLE}"]
        self.channel = f"{metadata.schema}_outbox"
        written = (
            insert(rows)
            .values({name: sa.bindparam(name) for name in ADDED})
            .returning(rows.c.id)
            .cte("written")
        )
        # The wake-up is part of the transaction: it is sent by the commit, or not at all.
        self._add = Statement(sa.select(sa.func.pg_notify(self.channel, "")).select_from(written))
        due = (
            sa.select(rows.c.id)
            .where(rows.c.topic == sa.bindparam("of_topic"))
            .where(rows.c.next_attempt_time <= sa.func.clock_timestamp())
            .order_by(rows.c.next_attempt_time)
            .limit(BATCH)
            .with_for_update(skip_locked=True)
            # A subquery might be run once for each row, and then lease more than its LIMIT.
            .cte("due")
        )
        self._lease = Statement(
            sa.update(rows)
            .where(rows.c.id == due.c.id)
            .values(
                attempts=rows.c.attempts + 1,
                next_attempt_time=sa.func.clock_timestamp()
                + sa.bindparam("lease", type_=sa.Interval),
            )
            .returning(rows)
        )
        self._backlog = Statement(
            sa.select(
                rows.c.topic,
                sa.func.count().label("pending"),
                sa.extract("epoch", sa.func.clock_timestamp() - sa.func.min(rows.c.create_time))
                .cast(sa.Float)
                .label("oldest"),
            ).group_by(rows.c.topic)
        )
        ids = sa.bindparam("ids", type_=ARRAY(sa.Uuid))
        self._delivered = Statement(sa.delete(rows).where(rows.c.id == sa.any_(ids)))
        self._failed = Statement(
            sa.update(rows)
            .where(rows.c.id == sa.bindparam("row_id"))
            .values(
                last_error=sa.bindparam("error"),
                next_attempt_time=sa.func.clock_timestamp()
                + sa.bindparam("pause", type_=sa.Interval),
            )
        )

    async def add(self, tx: Connection, topic: str, payload: bytes) -> None:
        """Have `payload` delivered to `topic` once the transaction has committed."""
        traceparent = tracing.current().traceparent()
        await self._add.run(tx, id=uuid7(), topic=topic, payload=payload, traceparent=traceparent)

    async def lease(self, connection: Connection, topic: str) -> list[Row]:
        """Up to 50 rows of a topic that are due, now nobody else's for 15 s."""
        return await self._lease.all(connection, of_topic=topic, lease=LEASE)

    async def backlog(self, connection: Connection) -> dict[str, tuple[int, float]]:
        """For each topic with rows that wait: how many, and the age of the oldest in seconds."""
        rows = await self._backlog.all(connection)
        return {row["topic"]: (row["pending"], row["oldest"]) for row in rows}

    async def delivered(self, connection: Connection, ids: Sequence[UUID]) -> None:
        """Forget rows."""
        await self._delivered.run(connection, ids=list(ids))

    async def failed(self, connection: Connection, row: Row, error: str) -> None:
        """Have a row tried again, after a pause that doubles each time, up to 5 min."""
        pause = min(0.5 * 2 ** min(row["attempts"], 20), LONGEST_PAUSE_SECONDS)
        await self._failed.run(
            connection,
            row_id=row["id"],
            error=error,
            pause=timedelta(seconds=pause * random.uniform(0.8, 1.2)),  # noqa: S311 - jitter
        )


class Relay:
    """Delivers a service's outbox; run `forever` as a background task.

    Each topic is delivered by itself: letters that wait for a mail server hold up nothing else.
    """

    def __init__(self, database: Database, outbox: Outbox, topics: Mapping[str, Deliver]) -> None:
        self._database = database
        self._outbox = outbox
        self._topics = topics
        self._wakes = {topic: asyncio.Event() for topic in topics}
        # Rows that are done while a note is written share the next one, and its commit.
        self._notes = Batch(self._note)

    async def forever(self) -> None:
        """Deliver what is due, then sleep until a commit or the next poll; never returns."""
        async with asyncio.TaskGroup() as group:
            # Commits wake us while this stands; for what was committed before, we wake ourselves.
            listen = partial(
                self._database.follow,
                self._outbox.channel,
                heard=lambda _: self._wake(),
                joined=self._wake,
            )
            group.create_task(forever("outbox listener", listen))
            group.create_task(forever("outbox backlog", every(MEASURE_SECONDS, self.measure)))
            for topic in self._topics:
                group.create_task(forever(f"outbox {topic}", partial(self._follow, topic)))

    async def deliver_due(self) -> int:
        """Deliver one batch of every topic; how many rows they had."""
        return sum([await self._deliver_due(topic) for topic in self._topics])

    async def measure(self) -> None:
        """Tell Prometheus what waits: deliveries that hang would not be seen by those that end."""
        async with self._database.connection() as connection:
            backlog = await self._outbox.backlog(connection)
        for topic in self._topics:
            pending, oldest = backlog.get(topic, (0, 0.0))
            metrics.OUTBOX_PENDING.labels(topic).set(pending)
            metrics.OUTBOX_OLDEST.labels(topic).set(oldest)

    async def _follow(self, topic: str) -> None:
        wake = self._wakes[topic]
        while True:
            # Cleared before looking: a row committed while we look wakes us again.
            wake.clear()
            if not await self._deliver_due(topic):
                with suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), POLL_SECONDS)

    async def _deliver_due(self, topic: str) -> int:
        async with self._database.connection() as connection:
            rows = await self._outbox.lease(connection, topic)
        await asyncio.gather(*(self._deliver(row) for row in rows))
        return len(rows)

    async def _note(self, ids: Sequence[UUID]) -> dict[UUID, bool]:
        async with self._database.connection() as connection:
            await self._outbox.delivered(connection, ids)
        return dict.fromkeys(ids, True)

    async def _deliver(self, row: Row) -> None:
        """Deliver a row and note the outcome; a note that fails has the row delivered once more."""
        topic, attempt = row["topic"], row["attempts"]
        try:
            with tracing.current().delivering(topic, attempt, row["traceparent"]):
                async with asyncio.timeout(DELIVERY_SECONDS):
                    await self._topics[topic](row["payload"])
                await self._notes.get(row["id"])
        except Exception as error:
            metrics.OUTBOX_FAILED.labels(topic).inc()
            failures.report(log, "delivery failed", error, topic=topic, attempts=attempt)
            with suppress(ServiceError, asyncpg.PostgresError):
                async with self._database.connection() as connection:
                    await self._outbox.failed(connection, row, failures.kind(error))
        else:
            metrics.OUTBOX_DELIVERED.labels(topic).inc()
            metrics.OUTBOX_LAG.observe((datetime.now(UTC) - row["create_time"]).total_seconds())

    def _wake(self) -> None:
        for wake in self._wakes.values():
            wake.set()
