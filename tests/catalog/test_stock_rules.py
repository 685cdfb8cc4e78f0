"""Decisions on stock and reservations, without a database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from grpc import StatusCode
from hypothesis import given, strategies as st

from services.catalog import stock_rules
from services.catalog.stock_rules import (
    ACTIVE,
    COMMITTED,
    EXPIRED,
    MOST,
    RELEASED,
    Line,
    Move,
    Reservation,
)
from services.kit.errors import ServiceError
from services.kit.ids import uuid7
from shop.catalog.v1.catalog_pb2 import AdjustStockRequest, Product, StockMovement
from shop.catalog.v1.stock_pb2 import ReserveStockRequest, VariantSnapshot
from shop.errors.v1 import reason_pb2

A, B, SHIRT = uuid7(), uuid7(), uuid7()
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def offer(id: UUID = A, **fields: Any) -> dict[str, Any]:
    return {
        "id": id,
        "product_id": SHIRT,
        "default_variant_id": A,
        "product_state": Product.ACTIVE,
        "currency": "EUR",
    } | fields


def asked(quantity: int = 1, **item: str) -> ReserveStockRequest.Line:
    return ReserveStockRequest.Line(quantity=quantity, **item)


def line(id: UUID, quantity: int) -> Line:
    return Line(id, quantity, VariantSnapshot(product_id=str(SHIRT)).SerializeToString())


def reservation(state: Any, *lines: Line) -> Reservation:
    return Reservation(uuid7(), state, NOW, NOW, lines)


def stock(on_hand: int, reserved: int = 0, *, backorder: bool = False) -> dict[str, Any]:
    return {"on_hand": on_hand, "reserved": reserved, "allow_backorder": backorder}


def refusal(code: StatusCode, reason: reason_pb2.Reason.ValueType) -> Any:
    return pytest.raises(
        ServiceError, check=lambda error: (error.code, error.reason) == (code, reason)
    )


def failed(reason: reason_pb2.Reason.ValueType) -> Any:
    return refusal(StatusCode.FAILED_PRECONDITION, reason)


class TestDemand:
    def test_lines_on_one_variant_are_added_up(self) -> None:
        assert stock_rules.demand([line(A, 2), line(B, 1), line(A, 3)]) == {A: 5, B: 1}


class TestChoose:
    def test_a_variant_is_itself_and_a_product_its_default(self) -> None:
        lines = [asked(variant_id=str(B)), asked(product_id=str(SHIRT))]
        chosen = stock_rules.choose(lines, [offer(A), offer(B)])
        assert [item["id"] for item in chosen] == [B, A]

    def test_ids_are_the_same_in_capitals(self) -> None:
        assert stock_rules.choose([asked(variant_id=str(A).upper())], [offer(A)])[0]["id"] == A

    @pytest.mark.parametrize(
        ("line", "resource"),
        [(asked(variant_id=str(B)), "variant"), (asked(product_id=str(B)), "product")],
        ids=["variant", "product"],
    )
    def test_what_is_not_offered_is_not_found(
        self, line: ReserveStockRequest.Line, resource: str
    ) -> None:
        with refusal(StatusCode.NOT_FOUND, reason_pb2.REASON_RESOURCE_NOT_FOUND) as raised:
            stock_rules.choose([line], [offer(A)])
        assert raised.value.metadata == {"resource": resource, "id": str(B)}

    @pytest.mark.parametrize("state", [Product.DRAFT, Product.ARCHIVED])
    def test_only_active_products_are_for_sale(self, state: int) -> None:
        lines = [asked(variant_id=str(A)), asked(variant_id=str(B))]
        with failed(reason_pb2.REASON_NOT_FOR_SALE) as raised:
            stock_rules.choose(lines, [offer(A), offer(B, product_state=state)])
        assert raised.value.metadata == {"variant_id": str(B)}
        assert raised.value.preconditions == [(str(B), "lines[1]: is not for sale")]

    def test_an_order_has_one_currency(self) -> None:
        lines = [asked(variant_id=str(A)), asked(variant_id=str(B))]
        with failed(reason_pb2.REASON_CURRENCY_MISMATCH) as raised:
            stock_rules.choose(lines, [offer(A), offer(B, currency="USD")])
        assert raised.value.metadata["currency_code"] == "EUR"


class TestCheckOffered:
    def test_enough_is_fine(self) -> None:
        offers = [offer(A, **stock(5, 2)), offer(B, **stock(0, 7, backorder=True))]
        stock_rules.check_offered([line(A, 2), line(B, 9), line(A, 1)], offers)

    def test_a_default_variant_that_no_line_means_does_not_count(self) -> None:
        stock_rules.check_offered([line(B, 1)], [offer(A, **stock(0)), offer(B, **stock(1))])

    def test_too_little_is_out_of_stock(self) -> None:
        with failed(reason_pb2.REASON_OUT_OF_STOCK) as raised:
            stock_rules.check_offered([line(A, 2), line(A, 2)], [offer(A, **stock(5, 2))])
        assert raised.value.metadata == {
            "variant_id": str(A),
            "requested": "4",
            "available": "3",
        }


class TestCheckHeld:
    def test_all_moved_is_fine(self) -> None:
        rows = [{"variant_id": A, "on_hand": 5, "reserved": 0, "moved": True}]
        stock_rules.check_held([line(A, 2)], rows)

    def test_each_short_line_tells_the_whole_demand_and_what_there_is(self) -> None:
        rows = [
            {"variant_id": A, "on_hand": 5, "reserved": 2, "moved": False},
            {"variant_id": B, "on_hand": 9, "reserved": 0, "moved": True},
        ]
        with failed(reason_pb2.REASON_OUT_OF_STOCK) as raised:
            stock_rules.check_held([line(B, 1), line(A, 2), line(A, 2)], rows)
        assert raised.value.metadata == {
            "variant_id": str(A),
            "requested": "4",
            "available": "3",
        }
        assert raised.value.preconditions == [
            (str(A), "lines[1]: 4 asked for, 3 available"),
            (str(A), "lines[2]: 4 asked for, 3 available"),
        ]

    def test_a_variant_deleted_meanwhile_is_out_of_stock(self) -> None:
        with failed(reason_pb2.REASON_OUT_OF_STOCK) as raised:
            stock_rules.check_held([line(A, 1)], [])
        assert raised.value.metadata["available"] == "0"

    def test_what_is_owed_is_not_available(self) -> None:
        rows = [{"variant_id": A, "on_hand": -3, "reserved": 1, "moved": False}]
        with failed(reason_pb2.REASON_OUT_OF_STOCK) as raised:
            stock_rules.check_held([line(A, 1)], rows)
        assert raised.value.metadata["available"] == "0"

    def test_at_most_twenty_lines_are_told(self) -> None:
        with failed(reason_pb2.REASON_OUT_OF_STOCK) as raised:
            stock_rules.check_held([line(uuid7(), 999) for _ in range(100)], [])
        assert len(raised.value.preconditions) == 20
        assert len(raised.value.status().SerializeToString()) < 6000


class TestCheckRepeated:
    def test_the_same_lines_are_fine(self) -> None:
        lines = [asked(2, variant_id=str(A)), asked(3, product_id=str(SHIRT))]
        stock_rules.check_repeated(reservation(ACTIVE, line(A, 2), line(B, 3)), lines)

    @pytest.mark.parametrize(
        "lines",
        [
            [],
            [asked(3, variant_id=str(A))],
            [asked(2, variant_id=str(B))],
            [asked(2, product_id=str(B))],
            [asked(2, variant_id=str(A)), asked(1, variant_id=str(B))],
            [asked(1, variant_id=str(A)), asked(1, variant_id=str(A))],
        ],
    )
    def test_other_lines_are_refused(self, lines: list[ReserveStockRequest.Line]) -> None:
        with failed(reason_pb2.REASON_RESERVATION_MISMATCH):
            stock_rules.check_repeated(reservation(ACTIVE, line(A, 2)), lines)

    @pytest.mark.parametrize(
        ("state", "reason"),
        [
            (COMMITTED, reason_pb2.REASON_RESERVATION_COMMITTED),
            (RELEASED, reason_pb2.REASON_RESERVATION_RELEASED),
            (EXPIRED, reason_pb2.REASON_RESERVATION_RELEASED),
        ],
    )
    def test_one_that_is_over_stays_over(
        self, state: Any, reason: reason_pb2.Reason.ValueType
    ) -> None:
        over = reservation(state, line(A, 2))
        with failed(reason) as raised:
            stock_rules.check_repeated(over, [asked(2, variant_id=str(A))])
        assert raised.value.metadata == {"order_id": str(over.order_id)}


class TestCommit:
    def test_held_pieces_leave_both_counts(self) -> None:
        found = stock_rules.commit(reservation(ACTIVE, line(A, 2), line(A, 1), line(B, 4)))
        assert found == [Move(A, -3, -3), Move(B, -4, -4)]

    def test_expired_pieces_are_no_longer_held(self) -> None:
        assert stock_rules.commit(reservation(EXPIRED, line(A, 2))) == [Move(A, -2, 0)]

    def test_released_is_final(self) -> None:
        with failed(reason_pb2.REASON_RESERVATION_RELEASED):
            stock_rules.commit(reservation(RELEASED))

    def test_all_lines_have_to_be_there(self) -> None:
        both = reservation(EXPIRED, line(A, 1), line(B, 1))
        moved = {"variant_id": A, "moved": True}
        stock_rules.check_committed(both, [moved, {"variant_id": B, "moved": True}])
        for rows in ([moved], [moved, {"variant_id": B, "moved": False}]):
            with failed(reason_pb2.REASON_RESERVATION_EXPIRED):
                stock_rules.check_committed(both, rows)


class TestRelease:
    @pytest.mark.parametrize("restock", [False, True])
    def test_held_pieces_are_given_free(self, restock: bool) -> None:
        found = stock_rules.release(reservation(ACTIVE, line(A, 2), line(A, 1)), restock=restock)
        assert found == [Move(A, 0, -3)]

    @pytest.mark.parametrize("restock", [False, True])
    def test_expired_pieces_are_free_already(self, restock: bool) -> None:
        assert stock_rules.release(reservation(EXPIRED, line(A, 2)), restock=restock) == []

    def test_committed_pieces_come_back_only_when_that_is_asked_for(self) -> None:
        sold = reservation(COMMITTED, line(A, 2))
        assert stock_rules.release(sold, restock=True) == [Move(A, 2, 0)]
        with failed(reason_pb2.REASON_RESERVATION_COMMITTED):
            stock_rules.release(sold, restock=False)


def change_by(change: int) -> AdjustStockRequest:
    return AdjustStockRequest(change=change, reason=StockMovement.RESTOCK)


def count(on_hand: int, expected: int) -> AdjustStockRequest:
    counted = AdjustStockRequest.Count(on_hand=on_hand, expected_on_hand=expected)
    return AdjustStockRequest(set=counted, reason=StockMovement.CORRECTION)


class TestAdjustment:
    def test_a_change_is_itself(self) -> None:
        assert stock_rules.adjustment(change_by(-3), stock(5, 2)) == -3

    @given(before=st.integers(0, MOST), after=st.integers(0, MOST))
    def test_a_count_is_the_difference(self, before: int, after: int) -> None:
        assert stock_rules.adjustment(count(after, before), stock(before)) == after - before

    def test_a_count_against_another_number_is_refused(self) -> None:
        with refusal(StatusCode.ABORTED, reason_pb2.REASON_STOCK_CHANGED) as raised:
            stock_rules.adjustment(count(5, expected=4), stock(3))
        assert raised.value.metadata == {"on_hand": "3"}

    @pytest.mark.parametrize(
        "request_", [change_by(-4), count(1, expected=5)], ids=["change", "count"]
    )
    def test_reserved_pieces_stay(self, request_: AdjustStockRequest) -> None:
        with failed(reason_pb2.REASON_STOCK_RESERVED) as raised:
            stock_rules.adjustment(request_, stock(5, 2))
        assert raised.value.metadata == {"on_hand": "5", "reserved": "2"}

    def test_less_than_nothing_is_refused(self) -> None:
        with failed(reason_pb2.REASON_STOCK_RESERVED):
            stock_rules.adjustment(change_by(-6), stock(5))

    def test_backorders_may_be_owed_up_to_the_limit(self) -> None:
        owing = stock(1, 3, backorder=True)
        assert stock_rules.adjustment(change_by(-5), owing) == -5
        assert stock_rules.adjustment(change_by(-MOST + 2), owing) == -MOST + 2
        with failed(reason_pb2.REASON_STOCK_RESERVED):
            stock_rules.adjustment(change_by(-MOST + 1), owing)

    def test_there_is_a_most(self) -> None:
        assert stock_rules.adjustment(change_by(1), stock(MOST - 1)) == 1
        with failed(reason_pb2.REASON_LIMIT_REACHED) as raised:
            stock_rules.adjustment(change_by(1), stock(MOST))
        assert raised.value.metadata["limit"] == "1000000000"
