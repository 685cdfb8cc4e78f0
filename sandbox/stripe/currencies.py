"""Which currencies can be charged, and which amounts: Stripe's minor units, not always ISO's.

https://docs.stripe.com/currencies: MGA, which ISO 4217 gives two decimals, has none at Stripe; ISK
and UGX, which have none, are written with two decimals that must be 00; and the last digit of
three-decimal currencies must be 0.
"""

from __future__ import annotations

from functools import cache

from iso4217 import Currency

from sandbox.stripe import errors

NO_DECIMALS = frozenset(
    [
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "JPY",
        "KMF",
        "KRW",
        "MGA",
        "PYG",
        "RWF",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    ]
)
THREE_DECIMALS = frozenset(["BHD", "JOD", "KWD", "OMR", "TND"])
WHOLE_UNITS_ONLY = frozenset(["ISK", "UGX"])
LARGEST_AMOUNT = 99_999_999
LARGEST_AMOUNT_OF = {"IDR": 999_999_999_999}


@cache
def exponent(currency: str) -> int:
    """Decimal places in Stripe's API, by upper-case code. Raises KeyError for no such currency."""
    if currency in NO_DECIMALS:
        return 0
    try:
        places = Currency(currency).exponent
    except ValueError:
        raise KeyError(currency) from None
    if places is None:
        raise KeyError(currency)
    return 3 if currency in THREE_DECIMALS else 2


def check(amount: int, currency: str, param: str = "amount") -> None:
    """Raise unless `amount` minor units of lower-case `currency` can be charged or refunded."""
    code = currency.upper()
    try:
        exponent(code)
    except KeyError:
        message = f"Invalid currency: {currency[:10]}. Stripe does not support this currency."
        raise errors.invalid(message, "currency") from None
    most = LARGEST_AMOUNT_OF.get(code, LARGEST_AMOUNT)
    if amount > most:
        message = f"Amount must be no more than {show(most, currency)}"
        raise errors.invalid(message, param, "amount_too_large")
    step = 100 if code in WHOLE_UNITS_ONLY else 10 if code in THREE_DECIMALS else 1
    if amount % step:
        raise errors.invalid(
            f"Invalid amount. Amounts in {code} must be evenly divisible by {step}. See "
            "https://stripe.com/docs/currencies#special-cases for more information.",
            param,
            "invalid_charge_amount_no_decimal_compatible",
        )


def show(amount: int, currency: str) -> str:
    """An amount for people: `12.50 USD`."""
    places = exponent(currency.upper())
    digits = str(amount).rjust(places + 1, "0")
    number = f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return f"{number} {currency.upper()}"
