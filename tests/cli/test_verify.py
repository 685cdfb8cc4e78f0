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
# An order of the product that was paid two minutes ago, and all that belongs to it.
PAID = f"""
    INSERT INTO "order".orders
        (id, number, user_id, email, status, currency, subtotal, shipping_total, tax_total, total,
         shipping_address, shipping_phone, note, payment_id, last_sequence, update_time)
    VALUES ('{A}', 'N', '{B}', 'a@example.com', 3, 'EUR', 100, 0, 0, 100,
            '{{"region_code": "DE"}}', '', '', '{C}', 3, now() - interval '2 minutes');
    INSERT INTO "order".order_lines VALUES
        ('{A}', 0, '{C}', '{B}', '{A}', 'Hat', 'HAT', '{{}}', 1, 100);
    INSERT INTO "order".order_events (order_id, sequence, from_status, to_status, actor, note)
    VALUES ('{A}', 1, 0, 1, 1, ''), ('{A}', 2, 1, 2, 3, ''), ('{A}', 3, 2, 3, 3, '');
    INSERT INTO catalog.reservations (order_id, state, expire_time) VALUES ('{A}', 2, now());
    INSERT INTO catalog.reservation_lines (order_id, line, variant_id, quantity, snapshot)
    VALUES ('{A}', 0, '{B}', 1, '');
    INSERT INTO payment.orders (id) VALUES ('{A}');
    INSERT INTO payment.payments
        (id, order_id, user_id, amount, currency, payment_method, return_url, status, intent_id,
         captured, attempt_time, update_time)
    VALUES ('{C}', '{A}', '{B}', 100, 'EUR', 'pm_x', '', 3, 'pi_x', 100, now(),
            now() - interval '2 minutes');
"""


def paid(then: str) -> str:
    """The order, and what breaks it; no trigger minds."""
    return f"""
        {PAID}
        SET session_replication_role = replica;
        {then};
        SET session_replication_role = origin
    """


ACTIVE = """
    ON payment.payments (order_id) WHERE status IN (1, 2, 3, 7, 8, 9) AND NOT give_back
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
    "numbered without gaps": paid('DELETE FROM "order".order_events WHERE sequence = 2'),
    "the status that its last event": paid('UPDATE "order".orders SET status = 4'),
    "lines add up": paid('UPDATE "order".order_lines SET quantity = 2'),
    "still being made": paid(
        "UPDATE \"order\".orders SET status = 2, expire_time = now() - interval '2 minutes'"
    ),
    "two open orders": paid(
        'UPDATE "order".orders SET status = 2, cart_id = id, cart_cleared = true;'
        f"""INSERT INTO "order".orders (id, number, user_id, email, status, currency, subtotal,
            shipping_total, tax_total, total, shipping_address, shipping_phone, note, cart_id,
            cart_etag)
        VALUES ('{B}', 'M', '{B}', '', 2, 'EUR', 0, 0, 0, 0, '{{}}', '', '', '{A}', 'v2')"""
    ),
    "waiting for its payment holds": paid(
        "UPDATE \"order\".orders SET status = 2, expire_time = now() + interval '1 hour'"
    ),
    "paid order has taken": paid("UPDATE catalog.reservations SET state = 3"),
    "cancelled order holds no": paid('UPDATE "order".orders SET status = 7'),
    "for the lines of its order": paid("UPDATE catalog.reservation_lines SET quantity = 2"),
    "two payments under way": paid(
        f"""DROP INDEX payment.payments_active;
        INSERT INTO payment.payments
            (id, order_id, user_id, amount, currency, payment_method, return_url, status,
             attempt_time)
        VALUES ('{A}', '{A}', '{B}', 100, 'EUR', 'pm_x', '', 1, now())"""
    ),
    "refunds add up": paid("UPDATE payment.payments SET refunded = 1, status = 7"),
    "taken belongs to an order": paid('UPDATE "order".orders SET payment_id = user_id'),
    "took its total": paid('UPDATE "order".orders SET refunded_total = 1, status = 9'),
    "deleted user has no": f"""
        INSERT INTO users.users (id, password_hash, full_name, phone, role, delete_time)
        VALUES ('{B}', '', '', '', 'CUSTOMER', now() - interval '2 minutes');
        INSERT INTO users.mail_tokens (user_id, purpose, token_hash, expire_time)
        VALUES ('{B}', 'VERIFY_EMAIL', 'x', now())
    """,
    "deleted user hold nothing": paid(
        f"""INSERT INTO users.users (id, password_hash, full_name, phone, role, delete_time)
        VALUES ('{B}', '', '', '', 'CUSTOMER', now() - interval '2 minutes')"""
    ),
    **{
        f"what {schema} has to tell": f"""
            INSERT INTO "{schema}".outbox (id, topic, payload, create_time)
            VALUES ('{A}', 'topic', '', now() - interval '2 minutes')
        """
        for schema in ("order", "payment")
    },
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


def test_every_rule_can_be_broken() -> None:
    unbroken = [rule.name for rule in INVARIANTS if not any(part in rule.name for part in BROKEN)]
    assert unbroken == []


async def test_sound_data_hold_every_rule(sound: Any, databases: Databases) -> None:
    await sound.execute(PAID)
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
        await sound.execute("TRUNCATE payment.orders CASCADE")
        await sound.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS payments_active {ACTIVE}")
    broken = [found.invariant.name for found in findings if found.rows]
    assert any(rule in name for name in broken), broken
    output = io.StringIO()
    assert not show(findings, Console(file=output, width=120))
    assert "FAIL" in output.getvalue()
