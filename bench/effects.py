"""Whether what was answered has happened: orders exist, stock is held, carts hold their items."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import asyncpg

from bench.peers.serve import Peer
from bench.shop import Shop
from bench.shop_loads import ADDRESS, LINES
from cli.verify import verify

COUNTED = {
    "orders": 'SELECT count(*) FROM "order".orders',
    "pieces ordered": 'SELECT coalesce(sum(l.quantity), 0) FROM "order".order_lines l'
    ' JOIN "order".orders o ON o.id = l.order_id WHERE o.shipping_address @> $1',
    "pieces held": "SELECT sum(reserved) FROM catalog.stock",
    "pieces in carts": "SELECT coalesce(sum(quantity), 0) FROM cart.items",
}


async def count(shop: Shop) -> dict[str, int]:
    """How many of what there are in the shop."""
    owner = await asyncpg.connect(shop.owner_url)
    address = json.dumps({"address_lines": ADDRESS["address_lines"]})
    found: dict[str, Any] = {
        name: await owner.fetchval(sql, *([address] if "$1" in sql else []))
        for name, sql in COUNTED.items()
    }
    await owner.close()
    return {name: int(value) for name, value in found.items()}


async def check(shop: Shop, before: dict[str, int], orders: int, added: int) -> str:
    """What so many answered orders and additions to carts have left in the shop, in a sentence.

    Raises RuntimeError when that is not what there is.
    """
    after = await count(shop)
    came = {name: after[name] - before[name] for name in after}
    expected = {
        "orders": orders,
        "pieces ordered": orders * LINES,
        "pieces held": orders * LINES,
        "pieces in carts": added,
    }
    broken = [found.invariant.name for found in await verify(shop.databases) if found.rows]
    if came != expected or broken:
        raise RuntimeError(f"expected {expected}, found {came}; broken rules: {broken}")
    return (
        f"The shop has all {orders:,} orders that were answered, holds their {orders * LINES:,} "
        f"pieces, has the {added:,} pieces that were put into carts, and `shop verify` finds "
        "nothing wrong."
    )


async def check_peers(shop: Shop, peers: Sequence[Peer], orders: dict[str, int]) -> str:
    """The same of the peers. Raises RuntimeError."""
    owner = await asyncpg.connect(shop.owner_url)
    for peer in peers:
        row = await owner.fetchrow(
            f"SELECT (SELECT count(*) FROM {peer.schema}.orders),"  # noqa: S608 - one of ours
            f" (SELECT sum(quantity) FROM {peer.schema}.order_lines),"
            f" (SELECT sum(reserved) FROM {peer.schema}.variants)"
        )
        answered = orders[peer.name]
        if row is None or tuple(row) != (answered, answered * LINES, answered * LINES):
            raise RuntimeError(f"{peer.name} answered {answered} orders, and has {row}")
    await owner.close()
    said = " and ".join(f"{peer.name} its {orders[peer.name]:,} orders" for peer in peers)
    return f"{said[0].upper()}{said[1:]}, with the stock that they take."
