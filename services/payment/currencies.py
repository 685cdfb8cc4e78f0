"""Amounts as Stripe writes them: its minor units are not always those of ISO 4217.

https://docs.stripe.com/currencies: some currencies that have decimals in ISO 4217 have none there
(MGA), two that have none are written with two decimals, both 0 (ISK, UGX), and of those with three
decimals the last one must be 0.
"""

from __future__ import annotations

from services.kit import money

_NO_DECIMALS = frozenset(
    {
        *("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA"),
        *("PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"),
    }
)
_THREE_DECIMALS = frozenset(("BHD", "JOD", "KWD", "OMR", "TND"))


class UnchargeableError(ValueError):
    """Stripe cannot charge this amount in this currency."""


def to_stripe(amount: int, currency: str) -> int:
    """An amount of ISO minor units as Stripe wants it. Raises UnchargeableError."""
    scaled = _moved(amount, _places(currency) - money.exponent(currency))
    if currency in _THREE_DECIMALS and scaled % 10:
        raise UnchargeableError
    return scaled


def from_stripe(amount: int, currency: str) -> int:
    """An amount of Stripe's in ISO minor units. Raises UnchargeableError for none."""
    try:
        places = money.exponent(currency) - _places(currency)
    except KeyError:
        raise UnchargeableError from None
    return _moved(amount, places)


def _moved(amount: int, places: int) -> int:
    """`amount` with so many decimal places more."""
    if places >= 0:
        return amount * int(10**places)
    whole, rest = divmod(amount, int(10**-places))
    if rest:
        raise UnchargeableError
    return whole


def _places(currency: str) -> int:
    """Decimal places in Stripe's API."""
    if currency in _NO_DECIMALS:
        return 0
    return 3 if currency in _THREE_DECIMALS else 2
