"""3-D Secure: a PaymentIntent waits until its customer approves or refuses on a page of the issuer.

https://docs.stripe.com/payments/3d-secure. The page itself is in issuer_page.py.
"""

from __future__ import annotations

from sandbox.stripe import events, identifiers
from sandbox.stripe.account import Call
from sandbox.stripe.store import Object


def ask(call: Call, intent: Object, return_url: str | None) -> Object:
    """Send the customer to the issuer: to a page, or, without `return_url`, through Stripe.js."""
    attempt = {
        "id": identifiers.new("payatt", 40),
        "object": "authentication",
        "created": call.now(),
        "payment_intent": intent["id"],
        "payment_method": intent["payment_method"],
        "return_url": return_url,
        "state": "pending",
    }
    call.store.add(attempt, parent=intent["id"])
    url = f"{call.base_url}/3d_secure/{attempt['id']}"
    if return_url is None:
        details = {"type": "three_d_secure_redirect", "stripe_js": url}
        intent["next_action"] = {"type": "use_stripe_sdk", "use_stripe_sdk": details}
    else:
        redirect = {"return_url": return_url, "url": url}
        intent["next_action"] = {"type": "redirect_to_url", "redirect_to_url": redirect}
    intent["status"] = "requires_action"
    call.store.save(intent)
    events.record(call, "payment_intent.requires_action", intent)
    return intent


def is_open(call: Call, attempt: Object, intent: Object) -> bool:
    """Whether this attempt still decides: the last one of a PaymentIntent that waits for it."""
    last = call.store.of(intent["id"], "authentication")[-1]
    return bool(
        intent["status"] == "requires_action"
        and attempt["state"] == "pending"
        and last["id"] == attempt["id"]
    )


def close(call: Call, attempt: Object, *, approved: bool) -> None:
    attempt["state"] = "succeeded" if approved else "failed"
    call.store.save(attempt)


def use(call: Call, intent: Object) -> None:
    """One approval pays once: the next attempt with the same PaymentMethod asks again."""
    attempt = call.store.of(intent["id"], "authentication")[-1]
    attempt["state"] = "used"
    call.store.save(attempt)


def passed(call: Call, intent: Object) -> bool:
    """Whether the customer has approved this PaymentMethod, and only the charge is missing.

    That is so with confirmation_method `manual`, where the server confirms once more.
    """
    attempts = call.store.of(intent["id"], "authentication")
    return bool(attempts) and (
        attempts[-1]["state"] == "succeeded"
        and attempts[-1]["payment_method"] == intent["payment_method"]
    )


def was_used(call: Call, intent: Object) -> bool:
    """Whether the charge that is under way goes back to an approval."""
    attempts = call.store.of(intent["id"], "authentication")
    return bool(attempts) and attempts[-1]["state"] == "used"
