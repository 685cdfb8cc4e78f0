"""Attempts to pay a PaymentIntent: what asks for authentication, what succeeds, what fails."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.stripe import authentications, charges, disputes, errands, errors, events
from sandbox.stripe.account import Call
from sandbox.stripe.cards import Decline
from sandbox.stripe.forms import Parameters
from sandbox.stripe.payment_methods import card_of, take
from sandbox.stripe.store import Object

CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")

AUTHENTICATION_REQUIRED = Decline(
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
    "authentication_required",
)
AUTHENTICATION_FAILED = Decline(
    "payment_intent_authentication_failure",
    "The provided PaymentMethod has failed authentication. You can provide payment_method_data or "
    "a new PaymentMethod to attempt to fulfill this PaymentIntent again.",
)


@dataclass
class Terms:
    """What a confirmation says about itself."""

    payment_method: str | None
    return_url: str | None
    off_session: bool
    error_on_requires_action: bool

    @property
    def only_for_confirming(self) -> str | None:
        """A parameter that makes sense only with a confirmation."""
        for name in ("return_url", "off_session", "error_on_requires_action"):
            if getattr(self, name):
                return name
        return None


def terms(parameters: Parameters) -> Terms:
    """Take the parameters that create and confirm share."""
    parameters.boolean("use_stripe_sdk")
    return Terms(
        payment_method=parameters.text("payment_method"),
        return_url=parameters.url("return_url"),
        off_session=_off_session(parameters),
        error_on_requires_action=parameters.boolean("error_on_requires_action"),
    )


def _off_session(parameters: Parameters) -> bool:
    """`true`, or which kind of payment without the customer it is."""
    value = parameters.choice("off_session", ["true", "false", "one_off", "recurring"])
    return value not in (None, "false")


def confirm(call: Call, parameters: Parameters, id: str) -> Object:
    intent = call.store.find("payment_intent", id)
    if intent is None:
        raise errors.no_such("payment_intent", id, "intent", in_path=True)
    agreed = terms(parameters)
    if parameters.has("receipt_email"):
        intent["receipt_email"] = parameters.text("receipt_email")
    parameters.finish()
    return attempt(call, intent, agreed)


def attempt(call: Call, intent: Object, agreed: Terms) -> Object:
    """Try to pay. Raises CardError for a declined card, and 400 where the status forbids a try."""
    _check_status(intent)
    if agreed.payment_method is not None:
        intent["payment_method"] = take(call, agreed.payment_method, "payment_method")["id"]
    if intent["payment_method"] is None:
        raise errors.unexpected_state(
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can "
            "either update the PaymentIntent with a payment method and then confirm it again, or "
            "confirm it again directly with a payment method or ConfirmationToken.",
            intent,
        )
    _check_return_url(intent, agreed)
    # A new attempt clears what the last one left.
    intent |= {"last_payment_error": None, "next_action": None}
    card = card_of(call, intent["payment_method"])
    authenticated = authentications.passed(call, intent)
    if card.authentication == "required" and not authenticated:
        if agreed.off_session or agreed.error_on_requires_action:
            raise errors.CardError(fail(call, intent, AUTHENTICATION_REQUIRED))
        return authentications.ask(call, intent, agreed.return_url)
    failure = settle(call, intent, authenticated=authenticated)
    if failure is not None:
        raise errors.CardError(failure)
    return intent


def settle(call: Call, intent: Object, *, authenticated: bool) -> Object | None:
    """Charge the card, or leave that for later on order; answers the error of a declined card."""
    if authenticated:
        authentications.use(call, intent)
    later = call.faults.get("settle_later")
    if later is not None:
        intent |= {"status": "processing", "processing": {"type": "card"}, "next_action": None}
        call.store.save(intent)
        events.record(call, "payment_intent.processing", intent)
        errands.add(call, later.seconds, f"settle {later.outcome}", intent["id"])
        return None
    decline = card_of(call, intent["payment_method"]).decline
    if decline is not None:
        return fail(call, intent, decline)
    succeed(call, intent, authenticated=authenticated)
    return None


def succeed(call: Call, intent: Object, *, authenticated: bool) -> None:
    """The card was charged, or, with manual capture, its money is held."""
    method = call.store.get("payment_method", intent["payment_method"])
    captured = intent["capture_method"] != "manual"
    charge = charges.add(call, intent, method, captured=captured, authenticated=authenticated)
    intent |= {"latest_charge": charge["id"], "next_action": None, "processing": None}
    if captured:
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        call.store.save(intent)
        events.record(call, "payment_intent.succeeded", intent)
        dispute = card_of(call, method["id"]).dispute
        if dispute is not None:
            disputes.begin(call, charge, dispute)
    else:
        intent |= {"status": "requires_capture", "amount_capturable": intent["amount"]}
        call.store.save(intent)
        events.record(call, "payment_intent.amount_capturable_updated", intent)
        errands.add(call, charges.AUTHORIZED_SECONDS, "expire authorization", intent["id"])


def fail(call: Call, intent: Object, decline: Decline) -> Object:
    """The attempt failed: another PaymentMethod is needed. Answers the error object."""
    method = call.store.get("payment_method", intent["payment_method"])
    error: Object = {
        "code": decline.code,
        "doc_url": errors.CODES + decline.code.replace("_", "-"),
        "message": decline.message,
        "payment_method": method,
        "type": "card_error",
    }
    if decline is AUTHENTICATION_FAILED:
        # The issuer was never asked for money: there is no charge.
        error["type"] = "invalid_request_error"
    else:
        charge = charges.add(call, intent, method, captured=False, decline=decline)
        intent["latest_charge"] = charge["id"]
        error |= {"advice_code": decline.advice, "charge": charge["id"]}
        if decline.decline_code is not None:
            error["decline_code"] = decline.decline_code
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "last_payment_error": error,
        "next_action": None,
        "processing": None,
    }
    call.store.save(intent)
    events.record(call, "payment_intent.payment_failed", intent)
    return error | {"payment_intent": intent}


def _check_status(intent: Object) -> None:
    status = intent["status"]
    if status in CONFIRMABLE:
        return
    why = (
        f"it has a status of {status}. Only a PaymentIntent with one of the following statuses may "
    )
    why += "be confirmed: requires_confirmation, requires_action"
    if status in ("succeeded", "requires_capture"):
        why = "it has already succeeded after being previously confirmed"
    raise errors.unexpected_state(f"You cannot confirm this PaymentIntent because {why}.", intent)


def _check_return_url(intent: Object, agreed: Terms) -> None:
    automatic = intent["automatic_payment_methods"]
    if automatic and automatic["allow_redirects"] == "always" and agreed.return_url is None:
        raise errors.invalid(
            "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. "
            "Because some of these payment methods might redirect your customer off of your page, "
            "you must provide a `return_url`. If you don't want to accept redirect-based payment "
            "methods, set `automatic_payment_methods[enabled]` to `true` and "
            "`automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents "
            "and Payment Intents.",
            "return_url",
        )
