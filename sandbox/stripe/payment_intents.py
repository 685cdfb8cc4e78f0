"""PaymentIntents: created, updated, captured, canceled; what confirms them is in confirmations.py.

https://docs.stripe.com/payments/paymentintents/lifecycle
"""

from __future__ import annotations

from sandbox.stripe import charges, confirmations, currencies, errors, events, identifiers, lists
from sandbox.stripe.account import Call
from sandbox.stripe.forms import Parameters
from sandbox.stripe.payment_methods import take
from sandbox.stripe.store import Object

CAPTURE_METHODS = ("automatic", "automatic_async", "manual")
CANCELLATION_REASONS = ("abandoned", "duplicate", "fraudulent", "requested_by_customer")
UPDATABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
# Stripe cancels one that is processing only in rare cases; here it never does.
CANCELABLE = (*UPDATABLE, "requires_capture")


def create(call: Call, parameters: Parameters) -> Object:
    """A new PaymentIntent; with `confirm=true` its first attempt too, whose failure raises 402."""
    amount = parameters.integer("amount", least=1)
    if amount is None:
        raise errors.missing("amount")
    currency = parameters.required("currency").lower()
    currencies.check(amount, currency)
    intent = _new(call, amount, currency)
    intent["capture_method"] = (
        parameters.choice("capture_method", CAPTURE_METHODS) or "automatic_async"
    )
    intent["confirmation_method"] = (
        parameters.choice("confirmation_method", ["automatic", "manual"]) or "automatic"
    )
    _take_types(intent, parameters)
    _take_details(intent, parameters)
    confirm = parameters.boolean("confirm")
    terms = confirmations.terms(parameters)
    _refuse_customers(parameters)
    parameters.finish()
    if not confirm and terms.only_for_confirming:
        name = terms.only_for_confirming
        message = f"You cannot pass {name} unless confirm is true."
        raise errors.invalid(message, name)
    if terms.payment_method is not None:
        method = take(call, terms.payment_method, "payment_method")
        intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
        terms.payment_method = None
    call.store.add(intent)
    events.record(call, "payment_intent.created", intent)
    return confirmations.attempt(call, intent, terms) if confirm else intent


def update(call: Call, parameters: Parameters, id: str) -> Object:
    """Change what may still change. Raises payment_intent_unexpected_state for what may not."""
    intent = retrieve_raw(call, id)
    fixed = [name for name in ("amount", "currency", "payment_method") if parameters.has(name)]
    if fixed and intent["status"] not in UPDATABLE:
        raise errors.unexpected_state(
            f"This PaymentIntent's {fixed[0]} could not be updated because it has a status of "
            f"{intent['status']}. You may only update the {fixed[0]} of a PaymentIntent with one "
            f"of the following statuses: {', '.join(UPDATABLE)}.",
            intent,
        )
    amount = parameters.integer("amount", least=1)
    currency = parameters.text("currency")
    intent["amount"] = amount or intent["amount"]
    intent["currency"] = (currency or intent["currency"]).lower()
    currencies.check(intent["amount"], intent["currency"])
    _take_details(intent, parameters)
    chosen = parameters.text("payment_method")
    parameters.finish()
    if chosen is not None:
        intent["payment_method"] = take(call, chosen, "payment_method")["id"]
        intent |= {"status": "requires_confirmation", "next_action": None}
    return call.store.save(intent)


def retrieve_raw(call: Call, id: str) -> Object:
    intent = call.store.find("payment_intent", id)
    if intent is None:
        raise errors.no_such("payment_intent", id, "intent", in_path=True)
    return intent


def retrieve(call: Call, parameters: Parameters, id: str) -> Object:
    intent = retrieve_raw(call, id)
    secret = parameters.text("client_secret")
    parameters.finish()
    if secret is not None and secret != intent["client_secret"]:
        raise errors.invalid(
            "The client_secret provided does not match the client_secret associated with the "
            "PaymentIntent.",
            "client_secret",
            "payment_intent_invalid_parameter",
        )
    return intent


def index(call: Call, parameters: Parameters) -> Object:
    _refuse_customers(parameters)
    return lists.page(call, parameters, "payment_intent", "/v1/payment_intents")


def capture(call: Call, parameters: Parameters, id: str) -> Object:
    """Take authorized money: all, or `amount_to_capture` and the rest is released."""
    intent = retrieve_raw(call, id)
    amount = parameters.integer("amount_to_capture", least=1)
    intent["metadata"] = parameters.metadata(intent["metadata"])
    parameters.finish()
    if intent["status"] != "requires_capture":
        why = f"it has a status of {intent['status']}. Only a PaymentIntent with one of the "
        why += "following statuses may be captured: requires_capture"
        if intent["status"] == "succeeded":
            why = "it has already been captured"
        message = f"This PaymentIntent could not be captured because {why}."
        raise errors.unexpected_state(message, intent)
    amount = amount or intent["amount_capturable"]
    if amount > intent["amount_capturable"]:
        raise errors.ApiError(
            400,
            "The amount_to_capture is greater than the amount that can be captured "
            f"({currencies.show(intent['amount_capturable'], intent['currency'])}).",
            code="amount_too_large",
            param="amount_to_capture",
        )
    currencies.check(amount, intent["currency"], "amount_to_capture")
    charges.capture(call, call.store.get("charge", intent["latest_charge"]), amount)
    intent |= {"status": "succeeded", "amount_capturable": 0, "amount_received": amount}
    call.store.save(intent)
    events.record(call, "payment_intent.succeeded", intent)
    return intent


def cancel(call: Call, parameters: Parameters, id: str) -> Object:
    """End it for good; an authorization is given back."""
    intent = retrieve_raw(call, id)
    reason = parameters.choice("cancellation_reason", CANCELLATION_REASONS)
    parameters.finish()
    if intent["status"] not in CANCELABLE:
        raise errors.unexpected_state(
            "You cannot cancel this PaymentIntent because it has a status of "
            f"{intent['status']}. Only a PaymentIntent with one of the following statuses may be "
            f"canceled: {', '.join(CANCELABLE)}.",
            intent,
        )
    return end(call, intent, reason)


def end(call: Call, intent: Object, reason: str | None) -> Object:
    """Cancel without asking whether that is allowed; the caller knows."""
    if intent["status"] == "requires_capture":
        charges.release(call, call.store.get("charge", intent["latest_charge"]))
    intent |= {
        "status": "canceled",
        "canceled_at": call.now(),
        "cancellation_reason": reason,
        "amount_capturable": 0,
        "next_action": None,
    }
    call.store.save(intent)
    events.record(call, "payment_intent.canceled", intent)
    return intent


def _take_types(intent: Object, parameters: Parameters) -> None:
    """What may pay: allowed types, or whatever is enabled for the account (Stripe's default)."""
    if parameters.has("payment_method_types"):
        raise errors.invalid(
            "The payment_method_types parameter is no longer supported in this API version. Use "
            "allowed_payment_method_types or excluded_payment_method_types instead.",
            "payment_method_types",
            "payment_method_types_no_longer_supported",
        )
    types = parameters.strings("allowed_payment_method_types")
    automatic = parameters.nested("automatic_payment_methods")
    if types and automatic is not None:
        raise errors.invalid(
            "You may only specify one of these parameters: automatic_payment_methods, "
            "allowed_payment_method_types.",
            "allowed_payment_method_types",
        )
    if types:
        if "card" not in types:
            message = "None of the allowed payment method types can be used: there are cards only."
            raise errors.invalid(message, "allowed_payment_method_types")
        intent["allowed_payment_method_types"] = types
        return
    redirects = "always"
    if automatic is not None:
        enabled = automatic.boolean("enabled")
        redirects = automatic.choice("allow_redirects", ["always", "never"]) or "always"
        automatic.finish()
        if not enabled:
            return
    intent["automatic_payment_methods"] = {"allow_redirects": redirects, "enabled": True}


def _take_details(intent: Object, parameters: Parameters) -> None:
    for name, most in (
        ("description", 1000),
        ("receipt_email", 800),
        ("statement_descriptor", 22),
        ("statement_descriptor_suffix", 22),
    ):
        if parameters.has(name):
            intent[name] = parameters.text(name, most=most)
    if parameters.has("shipping"):
        intent["shipping"] = parameters.tree("shipping")
    intent["metadata"] = parameters.metadata(intent["metadata"])


def _refuse_customers(parameters: Parameters) -> None:
    customer = parameters.text("customer")
    if customer is not None:
        raise errors.no_such("customer", customer, "customer")


def _new(call: Call, amount: int, currency: str) -> Object:
    id = identifiers.new("pi")
    return {
        "id": id,
        "object": "payment_intent",
        "allowed_payment_method_types": None,
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "client_secret": f"{id}_secret_{identifiers.letters(25)}",
        "confirmation_method": "automatic",
        "created": call.now(),
        "currency": currency,
        "customer": None,
        "customer_account": None,
        "description": None,
        "excluded_payment_method_types": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {
            "card": {
                "installments": None,
                "mandate_options": None,
                "network": None,
                "request_three_d_secure": "automatic",
            }
        },
        "payment_method_types": ["card"],
        "processing": None,
        "receipt_email": None,
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "source": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
    }
