"""Money: what goes in comes out, and nothing that is not an amount of a currency goes in."""

from __future__ import annotations

from decimal import Decimal

import pytest
from google.type.money_pb2 import Money
from hypothesis import given, strategies as st

from services.kit import money
from services.kit.errors import ServiceError

CURRENCIES = ["USD", "EUR", "JPY", "KWD", "BHD", "CLP", "CLF", "UYW", "CHF", "ISK", "TND"]
DECIMALS = {"JPY": 0, "CLP": 0, "ISK": 0, "USD": 2, "EUR": 2, "CHF": 2, "KWD": 3, "CLF": 4}

currencies = st.sampled_from(CURRENCIES)
amounts = st.integers(-money.LARGEST_AMOUNT, money.LARGEST_AMOUNT)
any_money = st.builds(
    Money,
    currency_code=st.one_of(currencies, st.text(max_size=4)),
    units=st.integers(-(2**63), 2**63 - 1),
    nanos=st.integers(-(2**31), 2**31 - 1),
)


def value(amount: Money) -> Decimal:
    """The amount as a number, by the definition of `google.type.Money`."""
    return Decimal(amount.units) + Decimal(amount.nanos) / 10**9


def refusal_of(amount: Money) -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        money.to_minor(amount, "price")
    return raised.value


class TestProperties:
    @given(amounts, currencies)
    def test_minor_units_survive_the_way_out_and_back(self, amount: int, currency: str) -> None:
        assert money.to_minor(money.from_minor(amount, currency), "price") == amount

    @given(amounts, currencies)
    def test_the_message_has_the_value_of_the_minor_units(self, amount: int, currency: str) -> None:
        message = money.from_minor(amount, currency)
        assert value(message) * 10 ** money.exponent(currency) == amount

    @given(amounts, currencies)
    def test_units_and_nanos_never_have_different_signs(self, amount: int, currency: str) -> None:
        message = money.from_minor(amount, currency)
        assert message.units * message.nanos >= 0
        assert abs(message.nanos) < 10**9

    @given(any_money)
    def test_whatever_comes_in_is_exact_or_refused(self, message: Money) -> None:
        try:
            amount = money.to_minor(message, "price")
        except ServiceError as error:
            assert error.violations[0].field.startswith("price.")
        else:
            assert value(message) * 10 ** money.exponent(message.currency_code) == amount
            assert abs(amount) <= money.LARGEST_AMOUNT

    @given(st.integers(0, 10**9), st.integers(0, 10**9), currencies)
    def test_order_is_kept(self, one: int, other: int, currency: str) -> None:
        smaller, larger = sorted((one, other))
        assert value(money.from_minor(smaller, currency)) <= value(
            money.from_minor(larger, currency)
        )


class TestExponent:
    @pytest.mark.parametrize(("currency", "places"), DECIMALS.items())
    def test_it_is_what_iso_4217_says(self, currency: str, places: int) -> None:
        assert money.exponent(currency) == places

    @pytest.mark.parametrize("code", ["", "usd", "US", "USDX", "XAU", "XXX", "XTS", "840", "ÜSD"])
    def test_what_cannot_be_charged_is_no_currency(self, code: str) -> None:
        with pytest.raises(KeyError):
            money.exponent(code)


class TestToMinor:
    def test_yen_have_no_decimals(self) -> None:
        assert money.to_minor(Money(currency_code="JPY", units=1200), "price") == 1200
        refused = refusal_of(Money(currency_code="JPY", units=1, nanos=500_000_000))
        assert refused.violations == [("price.nanos", "JPY has 0 decimal places")]

    def test_dinars_have_three(self) -> None:
        fils = Money(currency_code="KWD", units=1, nanos=1_000_000)
        assert money.to_minor(fils, "price") == 1001

    def test_less_than_a_cent_is_refused(self) -> None:
        refused = refusal_of(Money(currency_code="USD", nanos=1))
        assert refused.violations[0].field == "price.nanos"

    def test_mixed_signs_are_refused(self) -> None:
        refused = refusal_of(Money(currency_code="USD", units=1, nanos=-10_000_000))
        assert "sign" in refused.violations[0].description

    def test_a_billion_nanos_are_refused(self) -> None:
        assert refusal_of(Money(currency_code="USD", nanos=1_000_000_000)).violations

    def test_debts_are_exact_too(self) -> None:
        assert (
            money.to_minor(Money(currency_code="USD", units=-1, nanos=-10_000_000), "price") == -101
        )

    def test_more_than_a_bigint_could_sum_is_refused(self) -> None:
        assert refusal_of(Money(currency_code="USD", units=10**13, nanos=10_000_000)).violations
        most = Money(currency_code="USD", units=10**13)
        assert money.to_minor(most, "price") == money.LARGEST_AMOUNT
