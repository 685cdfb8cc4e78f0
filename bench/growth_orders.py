"""What the orders of one user cost while there are more and more of them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
from rich.console import Console

from bench.spread import Spread, opened, spread
from cli.database import Databases
from services.kit.ids import uuid7
from services.order import list_store, store
from services.order.tables import metadata

PAGE = 20
# Orders that come once in a list of many: the status filter has to find them.
CANCELLED, RARE_STATUS, RARE = 7, 2, 1_000

# Of one line each, about a minute apart.
_ORDERS = """
INSERT INTO "order".orders (id, number, user_id, email, status, currency, subtotal, shipping_total,
    tax_total, total, shipping_address, shipping_phone, note, create_time, update_time)
SELECT gen_random_uuid(), upper(substr(md5($1::uuid::text || n::text), 1, 12)), $1::uuid,
    'bench@shop.example', CASE WHEN n % $4 = 0 THEN $5::int ELSE $6::int END,
    'USD', 1000, 0, 0, 1000,
    '{"region_code": "US", "address_lines": ["1 Bench Street"]}', '', '', made, made
FROM generate_series($2::int, $3::int) AS n,
    LATERAL (SELECT now() - interval '10 years' + n * interval '61 seconds' AS made) AS moment
"""
_LINES = """
INSERT INTO "order".order_lines (order_id, line, id, variant_id, product_id, product_name, sku,
    options, quantity, unit_price)
SELECT id, 1, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'Thing', 'THING', '{}', 1,
    1000
FROM "order".orders o WHERE user_id = $1
    AND NOT EXISTS (SELECT FROM "order".order_lines l WHERE l.order_id = o.id)
"""


async def measure(
    databases: Databases, sizes: Sequence[int], console: Console
) -> dict[str, dict[int, Spread]]:
    """Times by call and number of orders."""
    owner = await asyncpg.connect(databases.owner)
    user = uuid7()
    figures: dict[str, dict[int, Spread]] = {}
    for before, size in itertools.pairwise([0, *sizes]):
        began = time.perf_counter()
        await owner.execute(
            _ORDERS, user, before + 1, size, RARE, RARE_STATUS, CANCELLED, timeout=600
        )
        await owner.execute(_LINES, user, timeout=600)
        await owner.execute('VACUUM (ANALYZE) "order".orders, "order".order_lines', timeout=600)
        console.print(f"{size:>9,} orders: loaded in {time.perf_counter() - began:.0f} s")
        await _add_figures(databases.services["order"], user, size, figures)
    await owner.close()
    return figures


async def _add_figures(
    url: str, user: UUID, size: int, figures: dict[str, dict[int, Spread]]
) -> None:
    async with opened(url, metadata) as database, database.connection() as connection:

        async def page(before: tuple[Any, UUID], status: int = 0) -> list[Any]:
            return await list_store.page(
                connection,
                before=before,
                most=PAGE + 1,
                status=status,  # type: ignore[arg-type]
                user_id=user,
            )

        newest = (list_store.LATEST, UUID(int=0))
        middle_row = await connection.fetchrow(
            'SELECT create_time, id FROM "order".orders WHERE user_id = $1'
            " ORDER BY create_time DESC, id DESC OFFSET $2 LIMIT 1",
            user,
            size // 2,
            timeout=60,
        )
        middle = (middle_row["create_time"], middle_row["id"])

        async def first() -> None:
            assert len(await page(newest)) == min(PAGE + 1, size)

        async def deep() -> None:
            await page(middle)

        async def rare() -> None:
            await page(newest, RARE_STATUS)

        async def one() -> None:
            await store.get(connection, middle[1])

        for name, ask in (
            ("ListUserOrders, page 1", first),
            ("ListUserOrders, the page in the middle", deep),
            (f"ListUserOrders, a status of one in {RARE:,}", rare),
            ("GetOrder", one),
        ):
            figures.setdefault(name, {})[size] = await spread(ask)
