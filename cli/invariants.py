"""What has to hold in the data of the shop, as SQL: each statement finds the rows that break it.

What one service tells another by its outbox takes a moment; rules over several schemas look at
what has been at rest for a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

AT_REST = "interval '60 seconds'"


@dataclass(frozen=True, slots=True)
class Invariant:
    """A rule, the schemas that it is about, and the SQL that finds what breaks it."""

    name: str
    schemas: tuple[str, ...]
    sql: str


CATALOG = (
    Invariant(
        "the changes in the stock ledger add up to what is on hand",
        ("catalog",),
        """
        SELECT s.variant_id, s.on_hand, coalesce(m.change, 0) AS ledger
        FROM catalog.stock s
        LEFT JOIN (
            SELECT variant_id, sum(change) AS change FROM catalog.stock_movements GROUP BY 1
        ) m USING (variant_id)
        WHERE s.on_hand <> coalesce(m.change, 0)
        """,
    ),
    Invariant(
        "without backorders, no more is reserved than is on hand, and nothing is negative",
        ("catalog",),
        """
        SELECT variant_id, on_hand, reserved FROM catalog.stock
        WHERE reserved < 0 OR NOT allow_backorder AND (on_hand < 0 OR reserved > on_hand)
        """,
    ),
    Invariant(
        "what is reserved is the sum of the active reservations",
        ("catalog",),
        """
        SELECT s.variant_id, s.reserved, coalesce(r.quantity, 0) AS reservations
        FROM catalog.stock s
        LEFT JOIN (
            SELECT l.variant_id, sum(l.quantity) AS quantity
            FROM catalog.reservations r JOIN catalog.reservation_lines l USING (order_id)
            WHERE r.state = 1 GROUP BY l.variant_id
        ) r USING (variant_id)
        WHERE s.reserved <> coalesce(r.quantity, 0)
        """,
    ),
    Invariant(
        "reservations end when their time is over",
        ("catalog",),
        f"""
        SELECT order_id, expire_time FROM catalog.reservations
        WHERE state = 1 AND expire_time < now() - {AT_REST}
        """,
    ),
    Invariant(
        "a product's default variant is its own, and its price is the product's",
        ("catalog",),
        """
        SELECT p.id, p.default_variant_id, p.price, p.currency
        FROM catalog.products p LEFT JOIN catalog.variants v ON v.id = p.default_variant_id
        WHERE (v.product_id, v.price, v.currency) IS DISTINCT FROM (p.id, p.price, p.currency)
        """,
    ),
)
CART = (
    Invariant(
        "the items of a cart are in one currency",
        ("cart",),
        """
        SELECT cart_id, array_agg(DISTINCT currency) AS currencies FROM cart.items
        GROUP BY cart_id HAVING count(DISTINCT currency) > 1
        """,
    ),
    Invariant(
        "a merged cart is empty",
        ("cart",),
        """
        SELECT c.id, c.merge_time FROM cart.carts c
        WHERE c.merge_time IS NOT NULL AND EXISTS (SELECT FROM cart.items i WHERE i.cart_id = c.id)
        """,
    ),
)
ORDER = (
    Invariant(
        "an order's events are numbered without gaps, and each begins where the last one ended",
        ("order",),
        """
        SELECT order_id, sequence, from_status, to_status FROM (
            SELECT order_id, sequence, from_status, to_status,
                lag(to_status, 1, 0::smallint) OVER history AS before,
                row_number() OVER history AS number
            FROM "order".order_events WINDOW history AS (PARTITION BY order_id ORDER BY sequence)
        ) e
        WHERE sequence <> number OR from_status <> before
        """,
    ),
    Invariant(
        "an order is in the status that its last event led to",
        ("order",),
        """
        SELECT o.id, o.status, e.to_status, o.last_sequence, e.sequence
        FROM "order".orders o
        LEFT JOIN "order".order_events e ON (e.order_id, e.sequence) = (o.id, o.last_sequence)
        WHERE o.status IS DISTINCT FROM e.to_status
        """,
    ),
    Invariant(
        "an order's lines add up to its subtotal",
        ("order",),
        """
        SELECT o.id, o.subtotal, l.subtotal AS lines
        FROM "order".orders o
        LEFT JOIN (
            SELECT order_id, sum(quantity * unit_price) AS subtotal
            FROM "order".order_lines GROUP BY order_id
        ) l ON l.order_id = o.id
        WHERE o.total IS NOT NULL AND o.subtotal IS DISTINCT FROM l.subtotal
        """,
    ),
    Invariant(
        "no order is still being made, or unpaid beyond its time",
        ("order",),
        f"""
        SELECT id, status, create_time, expire_time FROM "order".orders
        WHERE status = 1 AND create_time < now() - {AT_REST}
           OR status = 2 AND expire_time < now() - {AT_REST}
        """,
    ),
    Invariant(
        "no cart has two open orders",
        ("order",),
        """
        SELECT cart_id, array_agg(id) AS orders FROM "order".orders
        WHERE cart_id IS NOT NULL AND status IN (1, 2) GROUP BY cart_id HAVING count(*) > 1
        """,
    ),
    Invariant(
        "an order waiting for its payment holds its stock",
        ("order", "catalog"),
        f"""
        SELECT o.id, o.status, r.state FROM "order".orders o
        LEFT JOIN catalog.reservations r ON r.order_id = o.id
        WHERE o.status = 2 AND o.update_time < now() - {AT_REST} AND o.expire_time > now()
          AND r.state IS DISTINCT FROM 1
        """,
    ),
    Invariant(
        "a paid order has taken its stock",
        ("order", "catalog"),
        f"""
        SELECT o.id, o.status, r.state FROM "order".orders o
        LEFT JOIN catalog.reservations r ON r.order_id = o.id
        WHERE o.status IN (3, 4, 5, 6) AND o.update_time < now() - {AT_REST}
          AND r.state IS DISTINCT FROM 2
        """,
    ),
    Invariant(
        "a cancelled order holds no stock",
        ("order", "catalog"),
        f"""
        SELECT o.id, r.state FROM "order".orders o
        JOIN catalog.reservations r ON r.order_id = o.id
        WHERE o.status = 7 AND o.update_time < now() - {AT_REST} AND r.state IN (1, 2)
        """,
    ),
    Invariant(
        "a reservation is for the lines of its order",
        ("order", "catalog"),
        """
        SELECT o.id, o.quantity AS ordered, r.quantity AS reserved FROM (
            SELECT o.id, sum(l.quantity) AS quantity
            FROM "order".orders o JOIN "order".order_lines l ON l.order_id = o.id
            WHERE o.status IN (2, 3) GROUP BY o.id
        ) o
        JOIN (
            SELECT order_id, sum(quantity) AS quantity FROM catalog.reservation_lines GROUP BY 1
        ) r ON r.order_id = o.id
        WHERE o.quantity <> r.quantity
        """,
    ),
)
PAYMENT = (
    Invariant(
        "no order has two payments under way or taken",
        ("payment",),
        """
        SELECT order_id, array_agg(id) AS payments FROM payment.payments
        WHERE status IN (1, 2, 3, 7, 8, 9) AND NOT give_back GROUP BY order_id HAVING count(*) > 1
        """,
    ),
    Invariant(
        "a payment's refunds add up to what it says is refunded, and is on its way",
        ("payment",),
        """
        SELECT p.id, p.refunded, p.refund_pending, r.refunded AS done, r.pending
        FROM payment.payments p
        LEFT JOIN (
            SELECT payment_id,
                coalesce(sum(amount) FILTER (WHERE status = 2), 0) AS refunded,
                coalesce(sum(amount) FILTER (WHERE status = 1), 0) AS pending
            FROM payment.refunds GROUP BY payment_id
        ) r ON r.payment_id = p.id
        WHERE (p.refunded, p.refund_pending)
            IS DISTINCT FROM (coalesce(r.refunded, 0), coalesce(r.pending, 0))
        """,
    ),
    Invariant(
        "what was taken belongs to an order that is paid, or goes back",
        ("payment", "order"),
        f"""
        SELECT p.id, p.order_id, p.status, o.status AS order_status
        FROM payment.payments p LEFT JOIN "order".orders o ON o.id = p.order_id
        WHERE p.captured > p.refunded + p.refund_pending AND NOT p.give_back
          AND p.update_time < now() - {AT_REST}
          AND (o.payment_id IS DISTINCT FROM p.id OR o.status IN (1, 2, 7))
        """,
    ),
    Invariant(
        "a paid order's payment took its total, and gave back what the order says",
        ("payment", "order"),
        f"""
        SELECT o.id, o.total, o.refunded_total, p.captured, p.refunded
        FROM "order".orders o LEFT JOIN payment.payments p ON p.id = o.payment_id
        WHERE o.status IN (3, 4, 5, 6, 8, 9) AND o.total > 0
          AND o.update_time < now() - {AT_REST}
          AND p.update_time < now() - {AT_REST}
          AND (p.captured, p.refunded) IS DISTINCT FROM (o.total, o.refunded_total)
        """,
    ),
)


def _outbox(schema: str) -> Invariant:
    return Invariant(
        f"what {schema} has to tell others is told within a minute",
        (schema,),
        f"""
        SELECT id, topic, attempts, last_error, create_time FROM "{schema}".outbox
        WHERE create_time < now() - {AT_REST}
        """,
    )


USERS = (
    Invariant(
        "a deleted user has no sessions, addresses or tokens",
        ("users",),
        """
        SELECT u.id FROM users.users u
        WHERE u.delete_time IS NOT NULL AND (
            EXISTS (SELECT FROM users.sessions s WHERE s.user_id = u.id)
            OR EXISTS (SELECT FROM users.addresses a WHERE a.user_id = u.id)
            OR EXISTS (SELECT FROM users.mail_tokens t WHERE t.user_id = u.id)
        )
        """,
    ),
    Invariant(
        "the orders of a deleted user hold nothing personal",
        ("users", "order"),
        f"""
        SELECT o.id, o.user_id FROM users.users u JOIN "order".orders o ON o.user_id = u.id
        WHERE u.delete_time < now() - {AT_REST}
          AND (o.email <> '' OR o.shipping_phone <> ''
               OR o.shipping_address - 'region_code' <> '{{}}'::jsonb)
        """,
    ),
)

INVARIANTS = (
    *USERS,
    *CATALOG,
    *CART,
    *ORDER,
    *PAYMENT,
    *(_outbox(schema) for schema in ("users", "order", "payment")),
)
