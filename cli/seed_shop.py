"""`shop seed`: made-up products, customers, carts and orders, in the order in which they need each
other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import sqlalchemy as sa
from rich.progress import Progress

from cli import catalogue, migrate, seed, seed_orders, seed_people, seed_rows
from cli.commands import Wanted
from cli.database import Databases
from services.cart import tables as cart
from services.catalog import tables as catalog
from services.order import tables as order
from services.users import tables as users


async def load(databases: Databases, wanted: Wanted, chosen_seed: str, bar: Progress) -> None:
    """Add what is wanted, each with a task of the bar's. Raises StartError.

    Carts and orders are of the newest customers and products, be they of this run or older.
    """
    urls = databases.services

    def heard(what: str, count: int) -> Callable[[int], None]:
        return partial(bar.advance, bar.add_task(f"Loading {what}", total=count))

    if wanted.users or wanted.carts or wanted.orders:
        await migrate.migrate(databases)
    else:
        await migrate.migrate(databases, ["catalog"])
    if wanted.products:
        items = catalogue.made_up_items(wanted.products, seed=chosen_seed)
        await seed.load(urls["catalog"], items, heard("products", wanted.products))
        await seed.refresh_statistics(databases.owner or urls["catalog"])
    if wanted.users:
        await seed_people.load_users(
            urls["users"], wanted.users, chosen_seed, heard("users", wanted.users)
        )
        await _refresh(databases, users.users, users.addresses)
    if not wanted.carts and not wanted.orders:
        return
    goods = await seed_rows.goods(urls["catalog"])
    customers = await seed_rows.customers(urls["users"], max(wanted.carts, seed_rows.MOST))
    if wanted.carts:
        await seed_people.load_carts(
            urls["cart"], wanted.carts, chosen_seed, customers, goods, heard("carts", wanted.carts)
        )
        await _refresh(databases, cart.carts, cart.items)
    if wanted.orders:
        await seed_orders.load(
            urls, wanted.orders, chosen_seed, customers, goods, heard("orders", wanted.orders)
        )
        await _refresh(
            databases, order.orders, order.order_lines, order.order_events, order.settlements
        )
        await _refresh(
            databases,
            catalog.stock,
            catalog.stock_movements,
            catalog.reservations,
            catalog.reservation_lines,
        )


async def _refresh(databases: Databases, *tables: sa.Table) -> None:
    """Refresh the statistics of tables of one service."""
    service = tables[0].schema or ""
    await seed_rows.refresh_statistics(databases.owner or databases.services[service], tables)
