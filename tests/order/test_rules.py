"""The decisions about orders: which moves there are, what an order costs."""

from __future__ import annotations

import re
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given, strategies as st

from services.kit.errors import ServiceError
from services.order import rules
from services.order.rules import MOVES, By
from services.order.totals import tax_of, totals
from shop.order.v1.order_pb2 import Order

STATUSES = [status for status in Order.Status.values() if status]
RATES: dict[str, Any] = {"price": 500, "free_over": None, "rate_ppm": None, "included": None}


class TestMoves:
    def test_every_status_has_its_moves(self) -> None:
        assert sorted(MOVES) == sorted(STATUSES)

    def test_the_way_of_an_order_is_as_documented(self) -> None:
        way = [
            Order.PENDING,
            Order.AWAITING_PAYMENT,
            Order.PAID,
            Order.FULFILLING,
            Order.SHIPPED,
            Order.DELIVERED,
        ]
        for before, after in pairwise(way):
            assert after in MOVES[before]

    @pytest.mark.parametrize("by", By)
    def test_what_is_not_in_the_table_is_refused_and_says_what_is(self, by: By) -> None:
        for before, after in product(STATUSES, STATUSES):
            order = {"status": before}
            if by in MOVES[before].get(after, ()):
                rules.check_move(order, after, by)
                continue
            with pytest.raises(ServiceError) as refusal:
                rules.check_move(order, after, by)
            named = refusal.value.metadata["allowed"].split(",")
            allowed = [Order.Status.Name(to) for to, who in MOVES[before].items() if by in who]
            assert named == (allowed or [""])

    def test_only_the_shop_itself_moves_money(self) -> None:
        for moves in MOVES.values():
            for to in (Order.PAID, Order.REFUNDED, Order.PARTIALLY_REFUNDED):
                assert moves.get(to, {By.SYSTEM}) == {By.SYSTEM}

    def test_an_owner_only_cancels_and_only_what_is_unpaid(self) -> None:
        for before, moves in MOVES.items():
            owned = [to for to, who in moves.items() if By.OWNER in who]
            unpaid = before in (Order.PENDING, Order.AWAITING_PAYMENT)
            assert owned == ([Order.CANCELLED] if unpaid else [])

    def test_final_is_what_has_no_moves_and_no_money_to_give_back(self) -> None:
        for status in STATUSES:
            order = {"status": status, "payment_id": None, "refunded_total": 0, "total": 10}
            assert rules.is_final(order) == (not MOVES[status])
        paid = {"status": Order.CANCELLED, "payment_id": "p", "refunded_total": 9, "total": 10}
        assert not rules.is_final(paid)
        assert rules.is_final(paid | {"refunded_total": 10})


class TestNumber:
    def test_it_can_be_said_on_the_telephone(self) -> None:
        numbers = {rules.new_number() for _ in range(1000)}
        assert len(numbers) == 1000
        for number in numbers:
            assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}", number)


class TestTotals:
    @pytest.mark.parametrize(
        ("subtotal", "free_over", "shipping"),
        [(4999, 5000, 500), (5000, 5000, 0), (1, None, 500), (0, 0, 0)],
    )
    def test_shipping_is_free_from_a_subtotal_on(
        self, subtotal: int, free_over: int | None, shipping: int
    ) -> None:
        sums = totals([(subtotal, 1)], RATES | {"free_over": free_over}, "DE")
        assert sums.shipping_total == shipping
        assert sums.total == subtotal + shipping

    @pytest.mark.parametrize(
        ("amount", "rate_ppm", "included", "tax"),
        [
            (1000, 190_000, False, 190),
            (1190, 190_000, True, 190),
            (10, 50_000, False, 1),  # 0.5 is rounded up
            (9, 50_000, False, 0),
            (21, 50_000, True, 1),
            (100, 73_750, False, 7),
            (10**15, 1_000_000, True, 5 * 10**14),
            (0, 190_000, False, 0),
        ],
    )
    def test_tax_is_rounded_half_up(
        self, amount: int, rate_ppm: int, included: bool, tax: int
    ) -> None:
        assert tax_of(amount, rate_ppm, included=included) == tax

    @given(
        st.lists(st.tuples(st.integers(0, 10**11), st.integers(1, 999)), min_size=1, max_size=9),
        st.integers(0, 1_000_000),
        st.booleans(),
    )
    def test_the_parts_add_up(
        self, lines: list[tuple[int, int]], rate_ppm: int, included: bool
    ) -> None:
        sums = totals(lines, RATES | {"rate_ppm": rate_ppm, "included": included}, "DE")
        tax = 0 if included else sums.tax_total
        assert sums.total == sums.subtotal + sums.shipping_total + tax
        base = sums.subtotal + sums.shipping_total
        exact = base * rate_ppm / (1_000_000 + (rate_ppm if included else 0))
        assert abs(sums.tax_total - exact) <= 0.5 + exact * 1e-12
