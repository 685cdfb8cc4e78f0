"""What an order costs as one plain SQL transaction: pgbench writes the same rows as CreateOrder.

It knows the variants beforehand (a table of its own has them), asks nobody who is calling, and
checks nothing but that there is enough stock: what is left is what Postgres needs for the writes.
"""

from __future__ import annotations

import asyncpg

from bench import pgbench
from bench.load import Measured
from bench.shop import Shop
from bench.shop_loads import CREATE_ORDER_SQL
from bench.subjects import Transactions

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

# Two lines of different variants. An order of the service's has two events and is
# written twice, as PENDING and once its stock is held; here it is written once.
SCRIPT = """\
\\set a random(1, :half)
\\set b :half + random(1, :half)
BEGIN;
SELECT gen_random_uuid() AS id, upper(substr(md5(random()::text), 1, 10)) AS number,
    sum(price) AS subtotal FROM bench.variants WHERE number IN (:a, :b) \\gset
INSERT INTO catalog.reservations (order_id, state, expire_time)
    VALUES (cast(:id AS uuid), 1, now() + interval '16 minutes');
WITH locked AS (
    SELECT s.variant_id, s.on_hand, s.reserved FROM catalog.stock s
    JOIN bench.variants v USING (variant_id) WHERE v.number IN (:a, :b)
    ORDER BY s.variant_id FOR UPDATE OF s
) UPDATE catalog.stock s SET reserved = s.reserved + 1 FROM locked
    WHERE s.variant_id = locked.variant_id AND locked.on_hand > locked.reserved;
INSERT INTO catalog.reservation_lines
    SELECT cast(:id AS uuid), row_number() OVER (), variant_id, 1, snapshot
    FROM bench.variants WHERE number IN (:a, :b);
INSERT INTO "order".orders (id, number, user_id, email, status, currency, subtotal, shipping_total,
        tax_total, total, shipping_address, shipping_phone, note, last_sequence, expire_time)
    VALUES (cast(:id AS uuid), :number, cast(:user_id AS uuid), 'bench@shop.example', 2, 'USD',
        cast(:subtotal AS bigint), 0, 0, cast(:subtotal AS bigint),
        '{"region_code": "US", "address_lines": ["1 Bench Street"]}', '', '', 2,
        now() + interval '15 minutes');
INSERT INTO "order".order_lines
    SELECT cast(:id AS uuid), row_number() OVER (), gen_random_uuid(), variant_id, product_id,
        product_name, sku, options, 1, price
    FROM bench.variants WHERE number IN (:a, :b);
INSERT INTO "order".order_events (order_id, sequence, from_status, to_status, actor, user_id, note)
    VALUES (cast(:id AS uuid), 1, 0, 1, 1, cast(:user_id AS uuid), ''),
        (cast(:id AS uuid), 2, 1, 2, 3, NULL, '');
SELECT pg_notify('order_events', cast(:id AS text));
COMMIT;
"""


async def subject(shop: Shop) -> Transactions:
    """The transaction, on a table of variants that it makes."""
    owner = await asyncpg.connect(shop.owner_url)
    await owner.execute(PREPARE)
    count = await owner.fetchval("SELECT count(*) FROM bench.variants")
    await owner.close()
    variables = {"half": count // 2, "user_id": shop.customers[0].user_id}

    async def run(seconds: float, at_once: int) -> Measured:
        return await pgbench.run(shop.owner_url, [SCRIPT], seconds, at_once, variables)

    return Transactions(CREATE_ORDER_SQL, run)


async def remove(shop: Shop) -> None:
    """Leave nothing behind but the orders."""
    owner = await asyncpg.connect(shop.owner_url)
    await owner.execute("DROP SCHEMA bench CASCADE")
    await owner.close()
