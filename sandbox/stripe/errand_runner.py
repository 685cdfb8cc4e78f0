"""Runs the errands that are due, each in a transaction of its own with what it causes."""

from __future__ import annotations

from sandbox.stripe import authentications, cards, confirmations, payment_intents, refunds
from sandbox.stripe.account import Account, Call


def run_due(account: Account) -> None:
    """Do everything whose time has come, oldest first."""
    while True:
        row = account.store.row(
            "SELECT * FROM errands WHERE due <= ? ORDER BY due, id LIMIT 1", account.clock.now()
        )
        if row is None:
            return
        with account.store.transaction():
            account.store.run("DELETE FROM errands WHERE id = ?", row["id"])
            _do(Call(account, base_url=""), row["action"], row["target"])


def next_due(account: Account) -> float | None:
    """When the next errand is due, by the sandbox's clock."""
    row = account.store.row("SELECT min(due) AS due FROM errands")
    return None if row is None else row["due"]


def _do(call: Call, action: str, target: str) -> None:
    if action == "finish refund":
        refunds.finish(call, target)
    elif action == "fail refund":
        refunds.fail(call, target)
    elif action == "expire authorization":
        intent = call.store.get("payment_intent", target)
        if intent["status"] == "requires_capture":
            payment_intents.end(call, intent, "automatic")
    elif action.startswith("settle "):
        intent = call.store.get("payment_intent", target)
        if intent["status"] == "processing":
            if action == "settle succeeded":
                confirmations.succeed(
                    call, intent, authenticated=authentications.was_used(call, intent)
                )
            else:
                confirmations.fail(call, intent, cards.PROCESSING_ERROR)
    else:
        raise AssertionError(f"nobody knows how to {action}")
