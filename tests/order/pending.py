"""Orders as a call that was cut off has left them."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from shop.catalog.v1.stock_pb2 import ReserveStockRequest
from shop.order.v1.order_pb2 import Order


async def leave_pending(owner: asyncpg.Connection, order: Order) -> None:
    """Make an order as it is when its call was cut off before the last transaction."""
    demand = ReserveStockRequest(order_id=order.id)
    demand.ttl.FromSeconds(960)
    for line in order.lines:
        demand.lines.add(variant_id=line.variant_id, quantity=line.quantity)
    await owner.execute("SET session_replication_role = replica")
    await owner.execute(
        """
        UPDATE "order".orders SET status = 1, demand = $2, currency = NULL, subtotal = NULL,
            shipping_total = NULL, tax_total = NULL, total = NULL, last_sequence = 1
        WHERE id = $1
        """,
        UUID(order.id),
        demand.SerializeToString(),
    )
    for statement in (
        'DELETE FROM "order".order_lines WHERE order_id = $1',
        'DELETE FROM "order".order_events WHERE order_id = $1 AND sequence > 1',
    ):
        await owner.execute(statement, UUID(order.id))
    await owner.execute("SET session_replication_role = origin")
