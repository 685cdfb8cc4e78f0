"""What an order costs: integers of minor units, rounded once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from services.kit import errors
from services.kit.statements import Fields
from shop.errors.v1 import reason_pb2

MILLION = 1_000_000


class Totals(NamedTuple):
    """The totals of an order, in minor units of its currency."""

    subtotal: int
    shipping_total: int
    tax_total: int
    tax_included: bool
    total: int


def totals(lines: Iterable[tuple[int, int]], rates: Fields, region_code: str) -> Totals:
    """The totals of `lines` (unit price, quantity) by the rates of a country.

    `rates` has `price` and `free_over` of the shipping rate, `rate_ppm` and `included` of the tax
    rate; a price of None is a country that is not shipped to (SHIPPING_UNAVAILABLE), a rate_ppm of
    None one without tax. Shipping is taxed as the goods are.
    """
    if rates["price"] is None:
        raise errors.failed_precondition(
            reason_pb2.REASON_SHIPPING_UNAVAILABLE,
            "The shop does not ship to this country.",
            region_code=region_code,
        )
    subtotal = sum(price * quantity for price, quantity in lines)
    free = rates["free_over"] is not None and subtotal >= rates["free_over"]
    shipping = 0 if free else rates["price"]
    included = bool(rates["included"])
    tax = tax_of(subtotal + shipping, rates["rate_ppm"] or 0, included=included)
    total = subtotal + shipping + (0 if included else tax)
    return Totals(subtotal, shipping, tax, included, total)


def tax_of(amount: int, rate_ppm: int, *, included: bool) -> int:
    """The tax on an amount, or contained in it, rounded to the nearest minor unit, halves up.

    It is rounded once for an order, not line by line, so that it is the rate's share of the total.
    """
    whole = MILLION + rate_ppm if included else MILLION
    return (2 * amount * rate_ppm + whole) // (2 * whole)
