"""Stripe's test cards, by the ids that stand for them, and what each does when it is charged.

https://docs.stripe.com/testing: `pm_card_visa` and its kin may be used wherever a PaymentMethod
may.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Authentication = Literal["none", "required"]


@dataclass(frozen=True)
class Decline:
    """Why a card says no. `decline_code` is the issuer's word, where there is one."""

    code: str
    message: str
    decline_code: str | None = None
    advice: str = "try_again_later"


@dataclass(frozen=True)
class Card:
    brand: str = "visa"
    last4: str = "4242"
    country: str = "US"
    funding: str = "credit"
    authentication: Authentication = "none"
    decline: Decline | None = None
    dispute: str | None = None
    refund: Literal["succeeds", "is pending", "fails later"] = "succeeds"
    risk_score: int = 20


INSUFFICIENT_FUNDS = Decline(
    "card_declined", "Your card has insufficient funds.", "insufficient_funds"
)
PROCESSING_ERROR = Decline(
    "processing_error",
    "An error occurred while processing your card. Try again in a little bit.",
    "processing_error",
)


def _declined(decline_code: str, advice: str = "try_again_later") -> Decline:
    return Decline("card_declined", "Your card was declined.", decline_code, advice)


VISA = Card()
PAYING = {
    "visa": VISA,
    "visa_debit": Card(last4="5556", funding="debit"),
    "mastercard": Card("mastercard", "4444"),
    "mastercard_debit": Card("mastercard", "8210", funding="debit"),
    "mastercard_prepaid": Card("mastercard", "5100", funding="prepaid"),
    "amex": Card("amex", "8431"),
    "discover": Card("discover", "1117"),
    "diners": Card("diners", "0004"),
    "jcb": Card("jcb", "0505", country="JP"),
    "unionpay": Card("unionpay", "0005", country="CN"),
    "us": VISA,
    "gb": Card(last4="0000", country="GB"),
    "de": Card(last4="0016", country="DE"),
    "fr": Card(last4="0003", country="FR"),
    "jp": Card(last4="0003", country="JP"),
}
DECLINING = {
    "chargeDeclined": ("0002", _declined("generic_decline")),
    "chargeDeclinedInsufficientFunds": ("9995", INSUFFICIENT_FUNDS),
    "chargeDeclinedLostCard": ("9987", _declined("lost_card", "do_not_try_again")),
    "chargeDeclinedStolenCard": ("9979", _declined("stolen_card", "do_not_try_again")),
    "chargeDeclinedFraudulent": ("0019", _declined("fraudulent", "do_not_try_again")),
    "chargeDeclinedVelocityLimitExceeded": ("6975", _declined("card_velocity_exceeded")),
    "chargeDeclinedExpiredCard": (
        "0069",
        Decline("expired_card", "Your card has expired.", "expired_card", "do_not_try_again"),
    ),
    "chargeDeclinedIncorrectCvc": (
        "0127",
        Decline(
            "incorrect_cvc",
            "Your card's security code is incorrect.",
            "incorrect_cvc",
            "confirm_card_data",
        ),
    ),
    "chargeDeclinedProcessingError": ("0119", PROCESSING_ERROR),
    "chargeCustomerFail": ("0341", _declined("generic_decline")),
    "radarBlock": ("0019", _declined("fraudulent", "do_not_try_again")),
}
ASKING = {
    "authenticationRequired": Card(last4="3184", authentication="required"),
    "authenticationRequiredOnSetup": Card(last4="3155", authentication="required"),
    "authenticationRequiredChargeDeclinedInsufficientFunds": Card(
        last4="9235", authentication="required", decline=INSUFFICIENT_FUNDS
    ),
    "threeDSecure2Required": Card(last4="3220", authentication="required"),
    "threeDSecureRequired": Card(last4="3063", authentication="required"),
    "threeDSecureRequiredChargeDeclined": Card(
        last4="1629", authentication="required", decline=_declined("generic_decline")
    ),
    "threeDSecureRequiredProcessingError": Card(
        last4="1280", authentication="required", decline=PROCESSING_ERROR
    ),
    "threeDSecureOptional": Card(last4="3055"),
    "authenticationRequiredSetupForOffSession": Card(last4="0446"),
}
LATER = {
    "createDispute": Card(last4="0259", dispute="fraudulent"),
    "createDisputeProductNotReceived": Card(last4="2685", dispute="product_not_received"),
    "createDisputeInquiry": Card(last4="1976", dispute="inquiry"),
    "pendingRefund": Card(last4="7726", refund="is pending"),
    "refundFail": Card(last4="5126", refund="fails later"),
    "riskLevelElevated": Card(last4="9235", risk_score=65),
}


def _cards() -> dict[str, Card]:
    cards = dict(PAYING)
    for name, (last4, decline) in DECLINING.items():
        cards[name] = replace(VISA, last4=last4, decline=decline)
        # The documentation writes some of these with the brand, older pages without it.
        cards[f"visa_{name}"] = cards[name]
    return cards | ASKING | LATER


CARDS = _cards()


def named(id: str) -> str | None:
    """The test card that `pm_card_…` or `tok_…` stands for; None when it stands for none."""
    for prefix in ("pm_card_", "tok_"):
        name = id.removeprefix(prefix)
        if name != id and name in CARDS:
            return name
    return None
