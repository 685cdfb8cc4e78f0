"""Turns orders, what belongs to them, and the stock ledger into partitions by time.

All have keys that begin with a UUIDv7, which begins with its time: ranges of keys are ranges
of time, and every key and foreign key stays as it is. What stands now becomes the first partition,
as it is: no row is written anew, and locks are held for moments.

Four rules of orders are unique indexes without that key, which a partitioned table cannot have.
`order.claims` keeps them: each order claims its number, its idempotency key, its cart and what was
in that, in a plain table with a unique index; triggers do it, and the service does not notice.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from uuid import UUID

import asyncpg
from rich.console import Console

BATCH = 5_000
VALIDATES_LATER = 18
BEFORE = "before_partitions"

# What the rules are about, of an order.
_NEW = (
    "NEW.number, NEW.user_id, NEW.idempotency_key, NEW.cart_id, NEW.cart_etag, NEW.cart_cleared,"
    " NEW.status"
)

CLAIMS = """
CREATE TABLE "order".claims (
    kind text NOT NULL, key text NOT NULL, order_id uuid NOT NULL, PRIMARY KEY (kind, key)
);
CREATE INDEX claims_order_id ON "order".claims (order_id);

CREATE FUNCTION "order".claims_of(
    number text, user_id uuid, idempotency_key text, cart_id uuid, cart_etag text,
    cart_cleared boolean, status smallint
) RETURNS TABLE (kind text, key text) LANGUAGE sql IMMUTABLE AS $$
    SELECT 'cart', cart_id::text WHERE cart_id IS NOT NULL AND status <> 7 AND NOT cart_cleared
    UNION ALL SELECT 'content', cart_id || ' ' || cart_etag
    WHERE cart_id IS NOT NULL AND status <> 7
    UNION ALL SELECT 'key', user_id || ' ' || idempotency_key WHERE idempotency_key IS NOT NULL
    UNION ALL SELECT 'number', number
$$;

CREATE FUNCTION "order".keep_claims() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM "order".claims WHERE order_id = OLD.id;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO "order".claims SELECT kind, key, NEW.id FROM "order".claims_of(@NEW)
        ON CONFLICT (kind, key) DO UPDATE SET order_id = excluded.order_id;
    ELSE
        DELETE FROM "order".claims
        WHERE order_id = NEW.id
          AND (kind, key) NOT IN (SELECT kind, key FROM "order".claims_of(@NEW));
        INSERT INTO "order".claims
        SELECT kind, key, NEW.id FROM "order".claims_of(@NEW)
        EXCEPT SELECT kind, key, order_id FROM "order".claims WHERE order_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;

-- As the unique indexes did with ON CONFLICT DO NOTHING: who comes second waits, and adds no row.
CREATE FUNCTION "order".claim_first() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wanted bigint;
    got bigint;
BEGIN
    SELECT count(*) INTO wanted FROM "order".claims_of(@NEW);
    INSERT INTO "order".claims
    SELECT kind, key, NEW.id FROM "order".claims_of(@NEW) ORDER BY kind, key
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS got = ROW_COUNT;
    IF got < wanted THEN
        DELETE FROM "order".claims WHERE order_id = NEW.id;
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER orders_claims AFTER INSERT OR DELETE OR UPDATE ON "order".orders
FOR EACH ROW EXECUTE FUNCTION "order".keep_claims();
""".replace("@NEW", _NEW)
# Once there is no unique index: the row has its claims before it is written.
CLAIM_FIRST = """
DROP TRIGGER orders_claims ON "order".orders;
CREATE TRIGGER orders_claims AFTER DELETE OR UPDATE ON "order".orders
FOR EACH ROW EXECUTE FUNCTION "order".keep_claims();
CREATE TRIGGER orders_claim_first BEFORE INSERT ON "order".orders
FOR EACH ROW EXECUTE FUNCTION "order".claim_first();
"""
FILL = """
WITH batch AS MATERIALIZED (
    SELECT * FROM "order".orders WHERE id > $1 ORDER BY id LIMIT $2 FOR SHARE
), filled AS (
    INSERT INTO "order".claims
    SELECT claim.kind, claim.key, batch.id FROM batch, "order".claims_of(@NEW) claim
    ON CONFLICT DO NOTHING
)
SELECT max(id::text)::uuid FROM batch
""".replace("@NEW", _NEW.replace("NEW.", "batch."))


@dataclass(frozen=True)
class Table:
    """A table, and the first column of its key, which is a UUIDv7."""

    schema: str
    name: str
    key: str

    @property
    def full(self) -> str:
        """Its name in SQL."""
        return f'"{self.schema}".{self.name}'

    @property
    def first(self) -> str:
        """What the table is called once it is the first partition."""
        return f"{self.name}_first"


ORDERS = Table("order", "orders", "id")
EVENTS = Table("order", "order_events", "order_id")
LINES = Table("order", "order_lines", "order_id")
SETTLEMENTS = Table("order", "settlements", "order_id")
LEDGER = Table("catalog", "stock_movements", "id")
# What is turned together: tables and those that point to them.
TOGETHER = ((ORDERS, EVENTS, LINES, SETTLEMENTS), (LEDGER,))


def first_id(moment: datetime) -> UUID:
    """The least UUIDv7 of a moment."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62)


async def partition(
    connection: asyncpg.Connection,
    bounds: Sequence[datetime],
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Partition the tables, as their owner.

    The first partition ends at `bounds[0]`, which has to lie ahead; the others end at the rest.
    """
    began = time.monotonic()

    def took(what: str) -> None:
        nonlocal began
        say(f"{what}: {time.monotonic() - began:.3f} s")
        began = time.monotonic()

    # Older ones look at all rows of a partitioned table at once.
    late = "NOT VALID" if connection.get_server_version().major >= VALIDATES_LATER else ""
    await connection.execute(CLAIMS)
    after: UUID | None = UUID(int=0)
    while after is not None:
        after = await connection.fetchval(FILL, after, BATCH)
    took("claims of all orders, beside calls")
    for table in chain.from_iterable(TOGETHER):
        await connection.execute(
            f"ALTER TABLE {table.full} ADD CONSTRAINT {BEFORE}"
            f" CHECK ({table.key} < '{first_id(bounds[0])}') NOT VALID"
        )
        await connection.execute(f"ALTER TABLE {table.full} VALIDATE CONSTRAINT {BEFORE}")
    took("the bound of the first partitions, checked beside calls")
    for tables in TOGETHER:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '2s'")
            await connection.execute(
                f"LOCK TABLE {', '.join(table.full for table in tables)} IN ACCESS EXCLUSIVE MODE"
            )
            began = time.monotonic()
            keys = [key for table in tables for key in await _take_foreign_keys(connection, table)]
            for table in tables:
                await _split(connection, table, bounds[0])
            if ORDERS in tables:
                await connection.execute(CLAIM_FIRST)
            for child, name, definition in keys:
                await connection.execute(
                    f"ALTER TABLE {child} ADD CONSTRAINT {name} {definition} {late}"
                )
        took(f"{', '.join(table.name for table in tables)}, while calls wait")
        for child, name, _ in keys:
            await connection.execute(f"ALTER TABLE {child} VALIDATE CONSTRAINT {name}")
        took("foreign keys, checked beside calls")
        longest = 0.0
        for table in tables:
            for begins, ends in pairwise(bounds):
                before = time.monotonic()
                await connection.execute(
                    f'CREATE TABLE "{table.schema}".{table.name}_{begins:%Y%m%d_%H%M%S}'
                    f" PARTITION OF {table.full}"
                    f" FOR VALUES FROM ('{first_id(begins)}') TO ('{first_id(ends)}')"
                )
                longest = max(longest, time.monotonic() - before)
        took(f"more partitions, for each of which calls wait {longest:.3f} s at most")


async def _take_foreign_keys(
    connection: asyncpg.Connection, table: Table
) -> list[tuple[str, str, str]]:
    """Drop the foreign keys onto a table: the tables they are of, their names and definitions."""
    rows = await connection.fetch(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'f' AND confrelid = $1::text::regclass",
        table.full,
    )
    for child, name, _ in rows:
        await connection.execute(f"ALTER TABLE {child} DROP CONSTRAINT {name}")
    return [(child, name, definition) for child, name, definition in rows]


async def _split(connection: asyncpg.Connection, table: Table, bound: datetime) -> None:
    """Put a partitioned table in the place of a locked one, which becomes its first partition."""
    first = f'"{table.schema}".{table.first}'
    indexes = await connection.fetch(
        "SELECT relname AS name, pg_get_indexdef(indexrelid) AS definition,"
        " indisunique AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = indrelid"
        " AND attnum = ANY(indkey) AND attname = $2) AS is_impossible, indisprimary AS is_primary"
        " FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
        " WHERE indrelid = $1::text::regclass",
        table.full,
        table.key,
    )
    triggers = await connection.fetch(
        "SELECT tgname AS name, pg_get_triggerdef(oid) AS definition FROM pg_trigger"
        " WHERE tgrelid = $1::text::regclass AND NOT tgisinternal",
        table.full,
    )
    columns = await connection.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'p' AND conrelid = $1::text::regclass",
        table.full,
    )
    identity = await connection.fetchval(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass"
        " AND attidentity <> ''",
        table.full,
    )
    await connection.execute(f"ALTER TABLE {table.full} RENAME TO {table.first}")
    for index in indexes:
        await connection.execute(
            f'ALTER INDEX "{table.schema}".{index["name"]} RENAME TO {index["name"]}_first'
        )
    for trigger in triggers:
        await connection.execute(f"DROP TRIGGER {trigger['name']} ON {first}")
    await connection.execute(
        f"CREATE TABLE {table.full} (LIKE {first} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
        f" PARTITION BY RANGE ({table.key})"
    )
    await connection.execute(f"ALTER TABLE {table.full} DROP CONSTRAINT {BEFORE}")
    await connection.execute(f"ALTER TABLE {table.full} ADD {columns}")
    for index in indexes:
        # The first partition keeps those, for as long as it is there; all have claims.
        if not index["is_impossible"] and not index["is_primary"]:
            await connection.execute(index["definition"])
    if identity is not None:
        counted = await connection.fetchval(
            "SELECT pg_get_serial_sequence($1, $2)", first, identity
        )
        last = await connection.fetchval(f"SELECT last_value FROM {counted}")  # noqa: S608 - its own name
        await connection.execute(f"ALTER TABLE {first} ALTER {identity} DROP IDENTITY")
        await connection.execute(
            f"ALTER TABLE {table.full} ALTER {identity} ADD GENERATED ALWAYS AS IDENTITY"
            f" (START WITH {last + 1})"
        )
    await connection.execute(
        f"ALTER TABLE {table.full} ATTACH PARTITION {first} FOR VALUES FROM (MINVALUE)"
        f" TO ('{first_id(bound)}')"
    )
    # Nobody is refused because nobody has made the next partition in time.
    await connection.execute(
        f'CREATE TABLE "{table.schema}".{table.name}_rest PARTITION OF {table.full} DEFAULT'
    )
    for trigger in triggers:
        await connection.execute(trigger["definition"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools.partition", description=__doc__.split("\n")[0])
    parser.add_argument("url", help="the database, as its owner")
    parser.add_argument("--days", type=int, default=30, help="of each partition but the first")
    parser.add_argument("--partitions", type=int, default=12)
    told = parser.parse_args()
    tomorrow = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    tomorrow += timedelta(days=2)
    bounds = [tomorrow + timedelta(days=told.days * n) for n in range(told.partitions + 1)]

    async def run() -> None:
        connection = await asyncpg.connect(told.url)
        try:
            await partition(connection, bounds, Console(highlight=False).print)
        finally:
            await connection.close()

    asyncio.run(run())


if __name__ == "__main__":
    main()
