"""Money: `google.type.Money` outside, integer minor units and a currency inside; never a float."""

from __future__ import annotations

from google.type import money_pb2

from services.kit import errors
from services.kit.currencies import PLACES

NANOS_PER_UNIT = 1_000_000_000
# What one amount may be: sums over a long order stay far from the end of bigint.
LARGEST_AMOUNT = 10**15
# Of each currency: minor units in a unit, and nanos in a minor unit.
_SCALES = {
    currency: (10**places, NANOS_PER_UNIT // 10**places) for currency, places in PLACES.items()
}


def exponent(currency: str) -> int:
    """Decimal places of a currency (ISO 4217: JPY 0, USD 2, KWD 3). Raises KeyError for none.

    Funds, metals and test codes have no minor unit in ISO 4217 and cannot be charged: KeyError too.
    """
    return PLACES[currency]


def to_minor(money: money_pb2.Money, field: str) -> int:
    """Minor units of `money`.

    Raises INVALID_ARGUMENT naming `field`: no currency in use, or more decimals than it has.
    """
    try:
        minor_per_unit, nanos_per_minor = _SCALES[money.currency_code]
    except KeyError:
        raise errors.invalid_field(
            f"{field}.currency_code",
            "must be the ISO 4217 code of a currency in use, for example USD",
        ) from None
    if money.units * money.nanos < 0 or abs(money.nanos) >= NANOS_PER_UNIT:
        raise errors.invalid_field(
            f"{field}.nanos", "must have the sign of units and stay below 1000000000"
        )
    if money.nanos % nanos_per_minor:
        places = exponent(money.currency_code)
        raise errors.invalid_field(
            f"{field}.nanos", f"{money.currency_code} has {places} decimal places"
        )
    amount = money.units * minor_per_unit + money.nanos // nanos_per_minor
    if abs(amount) > LARGEST_AMOUNT:
        raise errors.invalid_field(f"{field}.units", "is more than can be handled")
    return int(amount)


def from_minor(amount: int, currency: str) -> money_pb2.Money:
    """`amount` minor units of `currency` as a message."""
    minor_per_unit, nanos_per_minor = _SCALES[currency]
    units, rest = divmod(abs(amount), minor_per_unit)
    nanos = rest * nanos_per_minor
    if amount < 0:
        units, nanos = -units, -nanos
    return money_pb2.Money(currency_code=currency, units=units, nanos=nanos)
