"""Charges: one for each attempt at a card that reached its issuer, paid or declined."""

from __future__ import annotations

from sandbox.stripe import balance, errors, events, identifiers, lists
from sandbox.stripe.account import Call
from sandbox.stripe.cards import Decline
from sandbox.stripe.forms import Parameters
from sandbox.stripe.payment_methods import card_of
from sandbox.stripe.store import Object

# How long an authorization can be captured. https://docs.stripe.com/payments/place-a-hold
AUTHORIZED_SECONDS = 7 * 24 * 3600


def add(
    call: Call,
    intent: Object,
    method: Object,
    *,
    captured: bool,
    authenticated: bool = False,
    decline: Decline | None = None,
) -> Object:
    """Write the charge of an attempt, move its money when captured, and say so in an event."""
    charge = _body(call, intent, method, authenticated=authenticated, decline=decline)
    call.store.add(charge, parent=intent["id"])
    if decline is not None:
        events.record(call, "charge.failed", charge)
        return charge
    if captured:
        charge |= {"captured": True, "amount_captured": intent["amount"]}
        charge["balance_transaction"] = balance.move(call, "charge", charge, intent["amount"])
    else:
        details = charge["payment_method_details"]["card"]
        details["capture_before"] = call.now() + AUTHORIZED_SECONDS
    call.store.save(charge)
    events.record(call, "charge.succeeded", charge)
    return charge


def capture(call: Call, charge: Object, amount: int) -> Object:
    """Take `amount` of what was authorized; the rest is released."""
    charge |= {"captured": True, "amount_captured": amount}
    charge["amount_refunded"] = charge["amount"] - amount
    charge["balance_transaction"] = balance.move(call, "charge", charge, amount)
    call.store.save(charge)
    events.record(call, "charge.captured", charge)
    return charge


def release(call: Call, charge: Object) -> Object:
    """Give an authorization back: nothing was captured, nothing is owed."""
    charge |= {"refunded": True, "amount_refunded": charge["amount"]}
    call.store.save(charge)
    events.record(call, "charge.refunded", charge)
    return charge


def retrieve(call: Call, parameters: Parameters, id: str) -> Object:
    parameters.finish()
    charge = call.store.find("charge", id)
    if charge is None:
        raise errors.no_such("charge", id, "id", in_path=True)
    return charge


def index(call: Call, parameters: Parameters) -> Object:
    return lists.page(call, parameters, "charge", "/v1/charges", ["payment_intent"])


def unrefunded(call: Call, charge: Object) -> int:
    """What can still be refunded: captured, less the refunds that have not failed."""
    refunds = call.store.of(charge["payment_intent"], "refund")
    given = sum(
        each["amount"]
        for each in refunds
        if each["charge"] == charge["id"] and each["status"] not in ("failed", "canceled")
    )
    return int(charge["amount_captured"] - given)


def _body(
    call: Call, intent: Object, method: Object, *, authenticated: bool, decline: Decline | None
) -> Object:
    return {
        "id": identifiers.new("ch"),
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": None if decline else "SANDBOX SHOP",
        "captured": False,
        "created": call.now(),
        "currency": intent["currency"],
        "customer": None,
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": decline.code if decline else None,
        "failure_message": decline.message if decline else None,
        "fraud_details": {},
        "livemode": False,
        "metadata": intent["metadata"],
        "on_behalf_of": None,
        "outcome": _outcome(call, method, decline),
        "paid": decline is None,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {
            "card": _card_details(method["card"], intent["amount"], authenticated, decline),
            "type": "card",
        },
        "receipt_email": intent["receipt_email"],
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": intent["shipping"],
        "source": None,
        "source_transfer": None,
        "statement_descriptor": intent["statement_descriptor"],
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": "failed" if decline else "succeeded",
        "transfer_data": None,
        "transfer_group": None,
    }


def _outcome(call: Call, method: Object, decline: Decline | None) -> Object:
    risk = card_of(call, method["id"]).risk_score
    outcome: Object = {
        "advice_code": decline.advice if decline else None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "declined_by_network" if decline else "approved_by_network",
        "reason": (decline.decline_code or decline.code) if decline else None,
        "risk_level": "elevated" if risk >= 65 else "normal",
        "risk_score": risk,
        "seller_message": "Payment complete.",
        "type": "authorized",
    }
    if decline is not None:
        message = f"The bank returned the decline code `{outcome['reason']}`."
        outcome |= {"seller_message": message, "type": "issuer_declined"}
    return outcome


def _card_details(
    card: Object, amount: int, authenticated: bool, decline: Decline | None
) -> Object:
    cvc_is_wrong = decline is not None and decline.code == "incorrect_cvc"
    return {
        "amount_authorized": None if decline else amount,
        "authorization_code": None if decline else identifiers.letters(6).upper(),
        "brand": card["brand"],
        "checks": card["checks"] | {"cvc_check": "fail" if cvc_is_wrong else "pass"},
        "country": card["country"],
        "exp_month": card["exp_month"],
        "exp_year": card["exp_year"],
        "extended_authorization": {"status": "disabled"},
        "fingerprint": card["fingerprint"],
        "funding": card["funding"],
        "incremental_authorization": {"status": "unavailable"},
        "installments": None,
        "last4": card["last4"],
        "mandate": None,
        "multicapture": {"status": "unavailable"},
        "network": card["brand"],
        "network_token": {"used": False},
        "network_transaction_id": None if decline else identifiers.letters(15),
        "overcapture": {"maximum_amount_capturable": amount, "status": "unavailable"},
        "regulated_status": "unregulated",
        "three_d_secure": _authentication() if authenticated else None,
        "wallet": None,
    }


def _authentication() -> Object:
    return {
        "authentication_flow": "challenge",
        "electronic_commerce_indicator": "05",
        "exemption_indicator": None,
        "result": "authenticated",
        "result_reason": None,
        "transaction_id": identifiers.letters(36),
        "version": "2.2.0",
    }
