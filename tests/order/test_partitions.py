"""Orders, what belongs to them, and the ledger, in partitions by time: the rules stay (scale.md).

Here are those that span partitions. `SHOP_TEST_PARTITIONED=1` has all tests run on partitions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from cli import migrate
from cli.database import Databases, databases_of
from services.kit.db import Database
from services.kit.ids import uuid7
from services.order import list_store, rules, store
from services.order.rules import CANCELLED
from services.order.store import Event
from services.order.tables import metadata
from shop.order.v1.order_pb2 import Order, OrderEvent
from tests.postgres_fixtures import TEMPLATE, in_database
from tools.partition import partition

STAFF = Event(OrderEvent.STAFF, None, "")


def new(**fields: Any) -> dict[str, Any]:
    """What a PENDING order is inserted with."""
    return {
        "id": uuid7(),
        "number": rules.new_number(),
        "user_id": uuid7(),
        "email": "ada@example.com",
        "shipping_address": {"region_code": "DE"},
        "shipping_phone": "",
        "note": "",
        "cart_id": uuid7(),
        "cart_etag": "v1",
        "idempotency_key": uuid7().hex,
        "fingerprint": b"",
        "demand": b"",
        "expected_total": None,
        "expected_currency": None,
        **fields,
    }


@dataclass
class Partitioned:
    """A database whose tables were partitioned, and an order from before."""

    database: Database
    owner: asyncpg.Connection
    old: dict[str, Any]

    async def insert(self, **fields: Any) -> UUID | None:
        """Add an order as CreateOrder does; its id, if there is no other one of its kind."""
        async with self.database.transaction() as tx:
            (row,) = await store.insert_orders(tx, [new(**fields)])
        return None if row is None else UUID(str(row["id"]))

    async def cancel(self, id: UUID) -> None:
        async with self.database.transaction() as tx:
            row = await store.lock(tx, id)
            await store.write(tx, row, {"status": CANCELLED}, STAFF)

    async def lies_in(self, id: UUID, table: str = "orders", key: str = "id") -> set[str]:
        """The partitions with rows of an order."""
        rows = await self.owner.fetch(
            f'SELECT tableoid::regclass::text FROM "order".{table} WHERE {key} = $1', id
        )
        return {row[0].rpartition(".")[2] for row in rows}


@pytest_asyncio.fixture(scope="module")
async def shop(postgres_url: str, databases: Databases, worker: str) -> AsyncIterator[Partitioned]:
    name = f"partitions_{worker}"
    maintenance = await asyncpg.connect(postgres_url)
    await maintenance.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    copy = databases_of(in_database(postgres_url, name))
    await migrate.migrate(copy)
    owner = await asyncpg.connect(copy.owner)
    database = await Database.open(copy.services["order"], metadata, name="tests")
    old = new()
    async with database.transaction() as tx:
        await store.insert_orders(tx, [old])
    now = datetime.now(UTC) + timedelta(milliseconds=2)
    await partition(owner, [now, now + timedelta(days=30), now + timedelta(days=60)])
    yield Partitioned(database, owner, old)
    await database.close()
    await owner.close()
    await maintenance.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await maintenance.close()


async def test_new_orders_lie_elsewhere_than_old_ones_and_are_listed_together(
    shop: Partitioned,
) -> None:
    order = await shop.insert(user_id=shop.old["user_id"])
    assert order is not None
    assert await shop.lies_in(shop.old["id"]) == {"orders_first"}
    (place,) = await shop.lies_in(order)
    assert place.startswith("orders_2")
    (of_events,) = await shop.lies_in(order, "order_events", "order_id")
    assert of_events.startswith("order_events_2")
    async with shop.database.connection() as connection:
        rows = await list_store.page(
            connection,
            before=(list_store.LATEST, UUID(int=2**128 - 1)),
            most=10,
            status=Order.STATUS_UNSPECIFIED,
            user_id=shop.old["user_id"],
        )
    assert [row["id"] for row in rows] == [order, shop.old["id"]]


@pytest.mark.parametrize(
    "fields",
    [
        ("number",),
        ("user_id", "idempotency_key"),
        ("cart_id",),
        ("cart_id", "cart_etag"),
    ],
)
async def test_what_is_unique_is_so_across_partitions(
    shop: Partitioned, fields: tuple[str, ...]
) -> None:
    before = await shop.owner.fetchval('SELECT count(*) FROM "order".claims')
    assert await shop.insert(**{name: shop.old[name] for name in fields}) is None
    assert await shop.owner.fetchval('SELECT count(*) FROM "order".claims') == before
    async with shop.database.connection() as connection:
        found = await store.find_by_key(
            connection, shop.old["user_id"], shop.old["idempotency_key"]
        )
    assert found is not None
    assert found["id"] == shop.old["id"]


async def test_a_cart_is_free_once_its_order_is_cancelled_or_cleared(shop: Partitioned) -> None:
    cart = uuid7()
    first = await shop.insert(cart_id=cart)
    assert first is not None
    assert await shop.insert(cart_id=cart) is None
    await shop.cancel(first)
    second = await shop.insert(cart_id=cart)
    assert second is not None
    async with shop.database.transaction() as tx:
        await store.cart_is_cleared(tx, second)
    assert await shop.insert(cart_id=cart) is None, "the same content once more"
    assert await shop.insert(cart_id=cart, cart_etag="v2") is not None


async def test_the_history_is_only_added_to(shop: Partitioned) -> None:
    order = await shop.insert()
    assert order is not None
    for statement in (
        'UPDATE "order".order_events SET sequence = 7 WHERE order_id = $1',
        'DELETE FROM "order".order_events WHERE order_id = $1',
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await shop.owner.execute(statement, order)
    await shop.cancel(order)
    with pytest.raises(asyncpg.RestrictViolationError):
        await shop.owner.execute('DELETE FROM "order".orders WHERE id = $1', order)


async def test_an_order_that_was_not_placed_goes_with_all_that_is_its(shop: Partitioned) -> None:
    values = new()
    order = await shop.insert(**values)
    assert order is not None
    async with shop.database.transaction() as tx:
        await store.delete(tx, order)
    assert await shop.lies_in(order, "order_events", "order_id") == set()
    assert await shop.insert(**values | {"id": uuid7()}) is not None


async def test_a_look_up_looks_into_one_partition(shop: Partitioned) -> None:
    plan = await shop.owner.fetch(
        f"EXPLAIN SELECT * FROM \"order\".orders WHERE id = '{shop.old['id']}'"
    )
    text = "\n".join(row[0] for row in plan)
    assert "orders_first" in text
    assert "orders_2" not in text


async def test_the_ledger_goes_on_counting(shop: Partitioned) -> None:
    variant = uuid7()
    for change in (5, -2):
        await shop.owner.execute(
            "INSERT INTO catalog.stock_movements (id, variant_id, change, on_hand, reason)"
            " VALUES ($1, $2, $3, 3, 1)",
            *(uuid7(), variant, change),
        )
    rows = await shop.owner.fetch(
        "SELECT change, sequence FROM catalog.stock_movements WHERE variant_id = $1"
        " ORDER BY sequence",
        variant,
    )
    assert [row["change"] for row in rows] == [5, -2]
    assert rows[0]["sequence"] < rows[1]["sequence"]


async def test_old_orders_go_with_their_partitions(shop: Partitioned) -> None:
    """The last test: it takes the first partitions away, children before parents."""
    for table in ("order_events", "order_lines", "settlements"):
        await shop.owner.execute(f'DROP TABLE "order".{table}_first')
    await shop.owner.execute('ALTER TABLE "order".orders DETACH PARTITION "order".orders_first')
    assert await shop.lies_in(shop.old["id"]) == set()
    # Its claims go with it, or stay for as long as a number should not come back.
    await shop.owner.execute(
        'DELETE FROM "order".claims WHERE order_id IN (SELECT id FROM "order".orders_first)'
    )
    assert await shop.insert(number=shop.old["number"]) is not None
