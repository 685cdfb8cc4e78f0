"""Ids as Stripe makes them: a prefix that tells the kind, and letters nobody can guess."""

from __future__ import annotations

import secrets
import string

LETTERS = string.ascii_letters + string.digits

PREFIXES = {
    "pi": "payment_intent",
    "ch": "charge",
    "re": "refund",
    "pm": "payment_method",
    "evt": "event",
    "du": "dispute",
    "txn": "balance_transaction",
}


def new(prefix: str, length: int = 24) -> str:
    """An id such as `pi_3kP…`."""
    return f"{prefix}_{letters(length)}"


def letters(length: int) -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(length))


def kind_of(text: str) -> str | None:
    """The kind of object that an id names, by its prefix."""
    return PREFIXES.get(text.partition("_")[0])
