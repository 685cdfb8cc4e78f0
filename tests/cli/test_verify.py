"""`shop verify`: every rule holds on sound data, and finds what breaks it."""

from __future__ import annotations

import io
from typing import Any

import asyncpg
import pytest
from rich.console import Console

from cli.database import Databases
from cli.invariants import INVARIANTS
from cli.verify import show, verify
from services.kit.ids import uuid7

A, B, C = (uuid7() for _ in range(3))

PRODUCT = f"""
    INSERT INTO catalog.products
        (id, slug, name, description, state, category_ids, attributes, media,
         default_variant_id, price, currency, skus)
    VALUES ('{A}', 'hat', 'Hat', '', 2, '{{}}', '{{}}', '[]', '{B}', 100, 'EUR', 'HAT');
    INSERT INTO catalog.variants (id, product_id, sku, options, price, currency, weight_grams)
    VALUES ('{B}', '{A}', 'HAT', '{{}}', 100, 'EUR', 0);
    INSERT INTO catalog.stock (variant_id, on_hand, reserved) VALUES ('{B}', 5, 0);
    INSERT INTO catalog.stock_movements (id, variant_id, change, on_hand, reason)
    VALUES ('{C}', '{B}', 5, 5, 1);
"""
# SQL that breaks a rule, by a part of the rule's name; constraints that forbid it are dropped.
BROKEN = {
    "ledger add up": "UPDATE catalog.stock SET on_hand = 4",
    "without backorders": """
        ALTER TABLE catalog.stock DROP CONSTRAINT stock_enough;
        UPDATE catalog.stock SET reserved = 6
    """,
    "sum of the active reservations": "UPDATE catalog.stock SET reserved = 1",
    "reservations end": f"""
        INSERT INTO catalog.reservations (order_id, state, expire_time)
        VALUES ('{A}', 1, now() - interval '2 minutes')
    """,
    "default variant": "UPDATE catalog.products SET price = 99",
    "merged cart": f"""
        INSERT INTO cart.carts (id, token_hash, merge_time) VALUES ('{A}', 'x', now());
        INSERT INTO cart.items VALUES ('{B}', '{A}', '{C}', 1, 100, 'EUR')
    """,
    "items of a cart": f"""
        INSERT INTO cart.carts (id, user_id) VALUES ('{A}', '{B}');
        INSERT INTO cart.items VALUES
            ('{B}', '{A}', '{B}', 1, 100, 'EUR'), ('{C}', '{A}', '{C}', 1, 100, 'USD')
    """,
    "what users has to tell": f"""
        INSERT INTO users.outbox (id, topic, payload, create_time)
        VALUES ('{A}', 'mail', '', now() - interval '2 minutes')
    """,
}


@pytest.fixture
async def sound(empty_database: None, owner_connection: asyncpg.Connection) -> Any:
    """A shop with one product, in a transaction of the test's that nobody else needs to see."""
    await owner_connection.execute(PRODUCT)
    return owner_connection


async def test_sound_data_hold_every_rule(sound: Any, databases: Databases) -> None:
    findings = await verify(databases)
    output = io.StringIO()
    assert show(findings, Console(file=output, width=120))
    assert {found.invariant for found in findings} == set(INVARIANTS)
    assert "FAIL" not in output.getvalue()


@pytest.mark.parametrize("rule", list(BROKEN))
async def test_what_breaks_a_rule_is_found_and_shown(
    sound: asyncpg.Connection, databases: Databases, rule: str
) -> None:
    constraint = "allow_backorder OR (on_hand >= 0 AND reserved <= on_hand)"
    try:
        await sound.execute(BROKEN[rule])
        findings = await verify(databases)
    finally:
        await sound.execute("UPDATE catalog.stock SET reserved = 0")
        await sound.execute("ALTER TABLE catalog.stock DROP CONSTRAINT IF EXISTS stock_enough")
        await sound.execute(
            f"ALTER TABLE catalog.stock ADD CONSTRAINT stock_enough CHECK ({constraint})"
        )
    broken = [found.invariant.name for found in findings if found.rows]
    assert any(rule in name for name in broken), broken
    output = io.StringIO()
    assert not show(findings, Console(file=output, width=120))
    assert "FAIL" in output.getvalue()
