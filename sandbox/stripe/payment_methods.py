"""PaymentMethods: cards by Stripe's test ids. Each use of a test id makes one, as at Stripe."""

from __future__ import annotations

from sandbox.stripe import cards, errors, identifiers
from sandbox.stripe.account import Call
from sandbox.stripe.forms import Form, Parameters
from sandbox.stripe.store import Object

ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")
EXPIRES_IN_YEARS = 1


def create(call: Call, parameters: Parameters) -> Object:
    """From a test token (`card[token]=tok_visa`); raw numbers do not get this far."""
    if parameters.choice("type", ["card"]) is None:
        raise errors.missing("type")
    card = parameters.nested("card")
    if card is None:
        raise errors.missing("card")
    token = card.required("token")
    card.finish()
    billing, metadata = parameters.tree("billing_details"), parameters.metadata()
    parameters.finish()
    name = cards.named(token)
    if name is None:
        raise errors.no_such("token", token, "card[token]")
    return add(call, name, billing, metadata)


def retrieve(call: Call, parameters: Parameters, id: str) -> Object:
    parameters.finish()
    return take(call, id, "payment_method", in_path=True)


def take(call: Call, id: str, param: str, *, in_path: bool = False) -> Object:
    """The PaymentMethod with `id`, or a new one for a test id. Raises resource_missing."""
    name = cards.named(id) if id.startswith("pm_") else None
    if name is not None:
        return add(call, name)
    found = call.store.find("payment_method", id)
    if found is None:
        raise errors.no_such("payment_method", id, param, in_path=in_path)
    return found


def add(
    call: Call, name: str, billing: Form | None = None, metadata: dict[str, str] | None = None
) -> Object:
    card = cards.CARDS[name]
    year = 1970 + call.now() // 31_556_952
    body = {
        "id": identifiers.new("pm"),
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": billing_details(billing or {}),
        "card": {
            "brand": card.brand,
            "checks": {
                "address_line1_check": None,
                "address_postal_code_check": None,
                "cvc_check": "pass",
            },
            "country": card.country,
            "display_brand": card.brand,
            "exp_month": 12,
            "exp_year": year + EXPIRES_IN_YEARS,
            "fingerprint": f"sandbox{card.brand}{card.last4}",
            "funding": card.funding,
            "generated_from": None,
            "last4": card.last4,
            "networks": {"available": [card.brand], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True},
            "wallet": None,
        },
        "created": call.now(),
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": metadata or {},
        "type": "card",
    }
    return call.store.add(body, trait=name)


def card_of(call: Call, id: str) -> cards.Card:
    """What the card behind a PaymentMethod does."""
    return cards.CARDS[call.store.trait(id) or "visa"]


def billing_details(given: Form) -> Object:
    address = given.get("address") or {}
    return {
        "address": {part: address.get(part) for part in ADDRESS},
        "email": given.get("email"),
        "name": given.get("name"),
        "phone": given.get("phone"),
        "tax_id": None,
    }
