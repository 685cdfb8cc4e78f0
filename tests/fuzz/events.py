"""Webhooks as the payment provider signs them, of events that need not make sense."""

from __future__ import annotations

import json
import random
import time
from typing import Any

from sandbox.stripe.webhooks import signature

# What JSON can hold besides what belongs there.
ODD: list[Any] = [None, True, 7, 1.5, 1e30, -(2**64), "x", "", [], [[]], {}, {"x": 1}, {"": ""}]
TYPES = {
    "payment_intent": ["payment_intent.succeeded", "payment_intent.payment_failed"],
    "charge": ["charge.succeeded", "charge.refunded"],
    "refund": ["refund.created", "refund.failed"],
    "dispute": ["charge.dispute.created", "charge.dispute.closed"],
    "customer": ["customer.created", "no.such.type"],
}


def event(luck: random.Random, payment_id: str) -> bytes:
    """An event about a payment, of which now and then some part is something else."""
    kind = luck.choice(list(TYPES))
    intent = f"pi_{luck.getrandbits(64):x}"
    subject = {
        "id": intent if kind == "payment_intent" else f"{kind}_{luck.getrandbits(64):x}",
        "object": kind,
        "payment_intent": luck.choice([intent, None, {"id": intent}]),
        "metadata": {"payment_id": payment_id},
        "amount": 2000,
        "currency": "eur",
        "reason": "fraudulent",
        "status": luck.choice(["succeeded", "needs_response", "lost", "failed"]),
        "created": 1_700_000_000,
    }
    told: dict[str, Any] = {
        "id": f"evt_{luck.getrandbits(64):x}",
        "object": "event",
        "type": luck.choice(TYPES[kind]),
        "created": 1_700_000_000,
        "data": {"object": subject},
    }
    if luck.random() < 0.5:
        part = luck.choice([told, told["data"], subject, subject])
        part[luck.choice(list(part))] = luck.choice(ODD)
    return json.dumps(luck.choice(ODD) if luck.random() < 0.05 else told).encode()


def signed(body: bytes, secret: str) -> dict[str, str]:
    """The header that shows who sent it."""
    return {"stripe-signature": signature(body.decode(), [secret], int(time.time()))}
