"""Amounts in Stripe's minor units, there and back."""

from __future__ import annotations

import pytest

from services.payment.currencies import UnchargeableError, from_stripe, to_stripe


@pytest.mark.parametrize(
    ("currency", "ours", "stripes"),
    [
        ("USD", 1_234, 1_234),
        ("EUR", 1, 1),
        ("JPY", 500, 500),
        ("KWD", 5_120, 5_120),
        ("ISK", 5, 500),
        ("UGX", 5, 500),
        ("MGA", 500, 5),
        ("HUF", 1_045, 1_045),
    ],
)
def test_amounts_go_there_and_back(currency: str, ours: int, stripes: int) -> None:
    assert to_stripe(ours, currency) == stripes
    assert from_stripe(stripes, currency) == ours


@pytest.mark.parametrize(("currency", "amount"), [("KWD", 5_124), ("BHD", 1), ("MGA", 150)])
def test_what_stripe_cannot_charge_is_never_rounded(currency: str, amount: int) -> None:
    with pytest.raises(UnchargeableError):
        to_stripe(amount, currency)


@pytest.mark.parametrize(("currency", "amount"), [("ISK", 550), ("XXX", 1), ("", 1)])
def test_what_is_no_amount_of_ours_is_not_guessed(currency: str, amount: int) -> None:
    with pytest.raises(UnchargeableError):
        from_stripe(amount, currency)
