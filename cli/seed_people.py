"""Loads customers, with an address each, and carts by COPY.

Nobody can sign in as one of them: all share the hash of a password that is drawn, hashed once and
forgotten, so that a shop with made-up customers has no account that strangers could enter. A
developer gets in with `shop token`, and a tester by resetting the password.
"""

from __future__ import annotations

import itertools
import random
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
from uuid_utils.compat import uuid7

from cli import seed_rows
from cli.programs import StartError
from services.cart.tables import carts, items
from services.kit.statements import Fields
from services.users.passwords import Passwords
from services.users.tables import addresses, users

# Users, or carts, of one transaction.
BATCH = 10_000
REGION_CODE = "US"
MOST_ITEMS = 4

FIRST_NAMES = ("Ada", "Alan", "Barbara", "Edsger", "Frances", "Grace", "Hedy", "Ivan", "Radia")
LAST_NAMES = ("Abbott", "Castillo", "Eriksen", "Haddad", "Ito", "Novak", "Okafor", "Silva")
STREETS = ("Acacia", "Birch", "Cedar", "Elm", "Juniper", "Linden", "Maple", "Oak", "Willow")
# With the first digits of their postal codes.
TOWNS = (
    ("Ashford", "061"),
    ("Brookfield", "531"),
    ("Fairview", "371"),
    ("Greenville", "296"),
    ("Lakewood", "802"),
    ("Riverside", "925"),
)

_USER = ("id", "email", "password_hash", "full_name", "phone", "role", "email_verified")
_ADDRESS = ("id", "user_id", "postal_address", "phone")
_CART = ("id", "user_id", "token_hash")
_ITEM = ("id", "cart_id", "variant_id", "quantity", "unit_price", "currency")

Heard = Callable[[int], None]


async def load_users(url: str, count: int, seed: str, loaded: Heard = lambda _: None) -> None:
    """Add `count` customers, `customer-<seed>-<number>@shop.example`.

    `loaded` hears how many more there are now. Raises StartError.
    """
    passwords = Passwords()
    try:
        nobodys = await passwords.hash(secrets.token_urlsafe(32))
    finally:
        passwords.close()
    luck = random.Random(f"users {seed}")  # noqa: S311 - these are no secrets
    async with seed_rows.connected(url) as connection:
        for numbers in _batches(count):
            people = [_user(luck, seed, number, nobodys) for number in numbers]
            places = [
                (uuid7(), user[0], address_of(luck, user[3]), f"+1 555 {luck.randrange(10**7):07}")
                for user in people
            ]
            try:
                async with connection.transaction():
                    await seed_rows.copy(connection, users, _USER, people)
                    await seed_rows.copy(connection, addresses, _ADDRESS, places)
            except asyncpg.UniqueViolationError:
                raise StartError("These users are there already: take another seed.") from None
            loaded(len(people))


async def load_carts(
    url: str,
    count: int,
    seed: str,
    customers: Sequence[Fields],
    goods: Sequence[Fields],
    loaded: Heard = lambda _: None,
) -> None:
    """Add `count` filled carts: one for each customer who has none, the others are of guests."""
    if not goods:
        raise StartError("There is nothing to put into carts: load products too (--products).")
    luck = random.Random(f"carts {seed}")  # noqa: S311 - these are no secrets
    async with seed_rows.connected(url) as connection:
        taken = await connection.fetch(
            "SELECT user_id FROM cart.carts WHERE user_id = ANY($1)",
            [customer["id"] for customer in customers],
        )
        having = {row["user_id"] for row in taken}
        waiting = iter([one["id"] for one in customers if one["id"] not in having])
        for numbers in _batches(count):
            made = [_cart(next(waiting, None)) for _ in numbers]
            filled = [item for cart in made for item in _items(luck, cart[0], goods)]
            async with connection.transaction():
                await seed_rows.copy(connection, carts, _CART, made)
                await seed_rows.copy(connection, items, _ITEM, filled)
            loaded(len(made))


def address_of(luck: random.Random, recipient: str) -> dict[str, Any]:
    """A made-up `google.type.PostalAddress`, as it is stored."""
    town, code = luck.choice(TOWNS)
    return {
        "region_code": REGION_CODE,
        "postal_code": f"{code}{luck.randrange(100):02}",
        "locality": town,
        "address_lines": [f"{luck.randrange(1, 400)} {luck.choice(STREETS)} Street"],
        "recipients": [recipient],
    }


def pick(luck: random.Random, goods: Sequence[Fields], most: int) -> list[Fields]:
    """One to `most` different things."""
    return luck.sample(goods, min(luck.randint(1, most), len(goods)))


def _batches(count: int) -> list[range]:
    edges = [*range(1, count + 1, BATCH), count + 1]
    return [range(first, end) for first, end in itertools.pairwise(edges)]


def _user(luck: random.Random, seed: str, number: int, password_hash: str) -> tuple[Any, ...]:
    name = f"{luck.choice(FIRST_NAMES)} {luck.choice(LAST_NAMES)}"
    email = f"customer-{seed}-{number}@shop.example"
    return (uuid7(), email, password_hash, name, "", "CUSTOMER", True)


def _cart(user_id: Any) -> tuple[Any, ...]:
    """A cart of a customer, or, for None, of a guest whose token nobody holds."""
    return (uuid7(), user_id, secrets.token_bytes(32) if user_id is None else None)


def _items(luck: random.Random, cart_id: Any, goods: Sequence[Fields]) -> list[tuple[Any, ...]]:
    return [
        (uuid7(), cart_id, thing["id"], luck.randint(1, 3), thing["price"], thing["currency"])
        for thing in pick(luck, goods, MOST_ITEMS)
    ]
