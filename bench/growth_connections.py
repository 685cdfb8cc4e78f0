"""What a call costs while more and more connections to the edge are open, all of them in use."""

from __future__ import annotations

from dataclasses import replace

from bench import shop as shops, shop_loads
from bench.rounds import Times
from bench.sending import send

CONNECTIONS = (1, 10, 100, 1_000)
SECONDS = 4.0
# As many calls a second as one connection can do, at least, so that all have the same work.
RATE = 150.0
PRODUCTS = 1_000


async def measure() -> dict[str, dict[int, Times]]:
    """Times of GetProduct by number of connections, at the same calls a second."""
    async with shops.running(PRODUCTS) as shop:
        some = await shop_loads.goods(shop)
        load = shop_loads.reads(shop, some)[shop_loads.GET]
        await send(replace(load, seconds=SECONDS))
        found = {}
        for count in CONNECTIONS:
            measured = await send(replace(load, seconds=SECONDS, at_once=count, rate=RATE))
            found[count] = Times.of([measured])
    return {f"GetProduct, REST, {RATE:.0f} calls a second": found}
