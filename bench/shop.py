"""The shop that is measured: `shop up` on free ports, with data, in a folder that is removed.

It is started twice: the first start makes the data, the second is what is measured, and finds
pg_stat_statements loaded, which counts the statements of everybody alike.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import jwt

from cli import accounts, catalogue, seed, seed_orders, seed_people, seed_rows
from cli.data_folder import DataFolder
from cli.database import Databases, databases_of
from services.users.signing import SigningKeys
from tests import shop as shops

ON_HAND = 1_000_000
CUSTOMERS = 32
TOKEN_SECONDS = 3600
# Orders that are there before; each customer has some.
ORDERS = 2_000
ARGUMENTS = ("--port", "0", "--no-demo")
COUNT_STATEMENTS = "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'"


@dataclass(frozen=True)
class Customer:
    """Somebody who buys, signed in."""

    user_id: str
    email: str
    token: str


@dataclass(frozen=True)
class Shop:
    """A running shop."""

    up: shops.ShopUp
    edge: str
    services: dict[str, str]
    databases: Databases
    customers: Sequence[Customer]
    second_start_seconds: float

    @property
    def owner_url(self) -> str:
        """The URL of the database's owner."""
        assert self.databases.owner is not None
        return self.databases.owner


@asynccontextmanager
async def running(
    products: int, starts: int = 1, told: Mapping[str, str] | None = None
) -> AsyncIterator[Shop]:
    """A shop with so many products, all of which can be bought as often as anybody wants.

    It is the last of so many `starts` with the data there, and `told` these variables.
    """
    with tempfile.TemporaryDirectory(prefix="shop-bench-") as name:
        folder = Path(name)
        async with shops.running(folder, *ARGUMENTS) as up:
            ready = await up.ready()
            await _load(databases_of(ready.database_url), products)
        seconds = []
        for _ in range(starts - 1):
            async with shops.running(folder, *ARGUMENTS) as up:
                seconds.append(await _start(up))
        async with shops.running(folder, *ARGUMENTS, **(told or {})) as up:
            seconds.append(await _start(up))
            ready = await up.ready()
            databases = databases_of(ready.database_url)
            yield Shop(
                up,
                urlsplit(ready.edge).netloc,
                ready.services,
                databases,
                await sign_in(databases, DataFolder(up.data)),
                statistics.median(seconds),
            )


async def _start(up: shops.ShopUp) -> float:
    """The seconds until a shop that was just asked to start is ready: the edge answers 200."""
    began = time.perf_counter()
    await up.ready()
    return time.perf_counter() - began


async def sign_in(databases: Databases, folder: DataFolder) -> list[Customer]:
    """The customers, with access tokens that live longer than those that people get."""
    url = databases.services["users"]
    expires = {"exp": int(time.time()) + TOKEN_SECONDS}
    customers = []
    for row in await seed_rows.customers(url, CUSTOMERS):
        token = await accounts.access_token(url, row["email"], folder.keys, "shop")
        claims = jwt.decode(token, options={"verify_signature": False})
        longer = SigningKeys(folder.keys).sign(claims | expires)
        customers.append(Customer(str(row["id"]), row["email"], longer))
    return customers


async def _load(databases: Databases, products: int) -> None:
    urls = databases.services
    items = (
        replace(item, choices=tuple(replace(one, on_hand=ON_HAND) for one in item.choices))
        for item in catalogue.made_up_items(products, seed="bench")
    )
    await seed.load(urls["catalog"], items)
    await seed_people.load_users(urls["users"], CUSTOMERS, "bench")
    customers = await seed_rows.customers(urls["users"], CUSTOMERS)
    goods = await seed_rows.goods(urls["catalog"])
    await seed_orders.load(urls, ORDERS, "bench", customers, goods)
    owner = await asyncpg.connect(databases.owner)
    await owner.execute(COUNT_STATEMENTS)
    await owner.execute("VACUUM (ANALYZE)")
    await owner.close()
