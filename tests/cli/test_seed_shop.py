"""`shop seed`: what it makes up is a shop in which every rule holds."""

from __future__ import annotations

import itertools
from typing import Any

import asyncpg
import pytest
from rich.progress import Progress

from cli.commands import Wanted
from cli.database import Databases
from cli.made_up_orders import HISTORIES
from cli.programs import StartError
from cli.seed_shop import load
from cli.verify import verify
from services.order import rules
from services.users.passwords import Passwords

WANTED = Wanted(products=30, users=12, carts=20, orders=60)


@pytest.fixture
async def seeded(
    empty_database: None, databases: Databases, owner_connection: asyncpg.Connection
) -> Any:
    await load(databases, WANTED, "one", Progress(disable=True))
    return owner_connection


async def test_every_rule_holds_also_after_a_second_time(seeded: Any, databases: Databases) -> None:
    await load(databases, Wanted(users=3, carts=5, orders=20), "two", Progress(disable=True))
    broken = [found.invariant.name for found in await verify(databases) if found.rows]
    assert broken == []


async def test_there_is_as_much_as_was_wanted(seeded: Any) -> None:
    counted = await seeded.fetchrow(
        "SELECT (SELECT count(*) FROM catalog.products), (SELECT count(*) FROM users.users),"
        ' (SELECT count(*) FROM cart.carts), (SELECT count(*) FROM "order".orders)'
    )
    assert tuple(counted) == WANTED


async def test_a_customer_has_one_cart_and_the_others_are_of_guests(
    seeded: Any,
) -> None:
    owned = await seeded.fetchval("SELECT count(*) FROM cart.carts WHERE user_id IS NOT NULL")
    assert owned == WANTED.users
    assert not await seeded.fetchval(
        "SELECT count(*) FROM cart.carts c"
        " WHERE NOT EXISTS (SELECT FROM cart.items i WHERE i.cart_id = c.id)"
    )


async def test_orders_are_in_every_status_in_which_one_stays(seeded: Any) -> None:
    rows = await seeded.fetch('SELECT DISTINCT status FROM "order".orders')
    assert {row["status"] for row in rows} == set(rules.MOVES) - {rules.PENDING}


def test_every_history_is_one_that_the_rules_allow() -> None:
    for history, _ in HISTORIES:
        for before, after in itertools.pairwise(history):
            assert after in rules.MOVES[before]


async def test_what_is_taken_is_in_the_ledger_and_what_there_was_is_still_there(
    seeded: Any,
) -> None:
    sold, ordered = await seeded.fetchrow(
        "SELECT (SELECT -sum(change) FROM catalog.stock_movements WHERE reason = 3),"
        ' (SELECT sum(l.quantity) FROM "order".order_lines l'
        '  JOIN "order".orders o ON o.id = l.order_id WHERE o.status NOT IN (2, 7))'
    )
    assert sold == ordered > 0
    assert not await seeded.fetch(
        "SELECT variant_id FROM catalog.stock s WHERE on_hand - reserved <> ("
        " SELECT coalesce(sum(change), 0) FROM catalog.stock_movements m"
        " WHERE m.variant_id = s.variant_id AND reason = 1)"
    )


async def test_all_customers_share_a_hash_that_is_of_no_likely_password(
    seeded: Any,
) -> None:
    hashes = {row["password_hash"] for row in await seeded.fetch("SELECT * FROM users.users")}
    (only,) = hashes
    passwords = Passwords()
    try:
        for guess in ("", "one", "password", "customer"):
            assert not await passwords.verify(only, guess)
    finally:
        passwords.close()


async def test_the_same_users_twice_are_refused(seeded: Any, databases: Databases) -> None:
    with pytest.raises(StartError, match="another seed"):
        await load(databases, Wanted(users=1), "one", Progress(disable=True))


@pytest.mark.parametrize(
    ("wanted", "lacks"),
    [
        (Wanted(carts=1), "--products"),
        (Wanted(orders=1), "--products"),
        (Wanted(products=1, orders=1), "--users"),
    ],
)
async def test_what_others_are_made_of_has_to_be_there(
    empty_database: None, databases: Databases, wanted: Wanted, lacks: str
) -> None:
    with pytest.raises(StartError, match=lacks):
        await load(databases, wanted, "one", Progress(disable=True))
