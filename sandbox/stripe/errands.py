"""Errands: what the sandbox does by itself, later by its clock: slow refunds, expired holds, …"""

from __future__ import annotations

from sandbox.stripe.account import Call


def add(call: Call, seconds: float, action: str, target: str) -> None:
    """Do `action` (see errand_runner.py) to the object `target` in `seconds`."""
    call.store.run(
        "INSERT INTO errands (due, action, target) VALUES (?, ?, ?)",
        *(call.account.clock.now() + seconds, action, target),
    )
    call.account.wake.set()
