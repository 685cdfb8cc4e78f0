"""Raw card numbers are refused, as Stripe does, and blanked wherever something is logged."""

from __future__ import annotations

import re
from typing import Any

from sandbox.stripe import errors
from sandbox.stripe.forms import Form

DIGITS = re.compile(r"(?<!\d)(?:\d[ -]?){12,18}\d(?!\d)")
CARD_FIELDS = ("number", "cvc", "exp_month", "exp_year")
CARD_PARENTS = ("card", "source", "payment_method_data")
BLANK = "[card number]"


def refuse(form: Form) -> None:
    """Raise Stripe's error for card details in the parameters that are made for them."""
    if _has_card(form) or contains(str(form.get("payment_method", ""))):
        raise errors.ApiError(
            402,
            "Sending credit card numbers directly to the Stripe API is generally unsafe. We "
            "suggest you use test tokens that map to the test card you are using, see "
            "https://stripe.com/docs/testing. To enable testing raw card data APIs, see "
            "https://support.stripe.com/questions/enabling-access-to-raw-card-data-apis.",
            began=False,
        )


def contains(text: str) -> bool:
    """Whether digits in `text` could be a card number (13 to 19 of them, Luhn's checksum)."""
    return any(_is_number(match[0]) for match in DIGITS.finditer(text))


def redact(value: Any) -> Any:
    """`value` with every possible card number blanked."""
    if isinstance(value, str):
        return DIGITS.sub(lambda m: BLANK if _is_number(m[0]) else m[0], value)
    if isinstance(value, list):
        return [redact(each) for each in value]
    if isinstance(value, dict):
        return {redact(key): redact(each) for key, each in value.items()}
    return value


def _has_card(form: Form) -> bool:
    for parent in CARD_PARENTS:
        inner = form.get(parent)
        if isinstance(inner, dict) and (
            any(field in inner for field in CARD_FIELDS) or _has_card(inner)
        ):
            return True
    return False


def _is_number(text: str) -> bool:
    digits = [int(each) for each in text if each.isdigit()]
    doubled = [sum(divmod(2 * each, 10)) for each in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
