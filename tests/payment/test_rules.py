"""The rules of settling: news in any order end the same, and captured money is never lost."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.kit.ids import uuid7
from services.payment import pauses, refund_rules, rules
from services.payment.gateway import Intent, Repayment
from shop.payment.v1.payment_pb2 import Payment, Refund

ID, ORDER = uuid7(), uuid7()
INTENT = Intent(
    id="pi_1",
    status="succeeded",
    amount=1_000,
    captured=1_000,
    currency="EUR",
    create_time=datetime(2026, 1, 1, tzinfo=UTC),
    shop="ours",
    payment_id=ID,
    order_id=ORDER,
    card_brand="visa",
    card_last4="4242",
)
OTHERS = {
    name: replace(INTENT, status=name, captured=0, card_brand="", card_last4="")
    for name in ("processing", "requires_action", "requires_payment_method", "canceled")
}


def payment(**columns: Any) -> dict[str, Any]:
    """A payment as it begins."""
    return {
        "id": ID,
        "order_id": ORDER,
        "amount": 1_000,
        "currency": "EUR",
        "status": Payment.PROCESSING,
        "intent_id": None,
        "intent_status": "",
        "client_secret": "",
        "redirect_url": "",
        "failure_code": "",
        "failure_message": "",
        "card_brand": "",
        "card_last4": "",
        "captured": 0,
        "refund_pending": 0,
        "refunded": 0,
        "give_back": False,
        "idempotency_key": "one",
        "fingerprint": b"one",
        "checks": 0,
    } | columns


def after(row: dict[str, Any], *intents: Intent) -> dict[str, Any]:
    for intent in intents:
        row = row | rules.settle(row, intent)
    return row


class TestSettle:
    @pytest.mark.parametrize("status", [Payment.PROCESSING, Payment.UNKNOWN])
    def test_success_captures(self, status: int) -> None:
        row = after(payment(status=status), INTENT)
        assert (row["status"], row["captured"]) == (Payment.SUCCEEDED, 1_000)
        assert (row["intent_id"], row["card_last4"]) == ("pi_1", "4242")

    def test_3_d_secure_asks_the_customer_until_it_is_over(self) -> None:
        asked = replace(OTHERS["requires_action"], client_secret="s", redirect_url="https://x")
        row = after(payment(), asked)
        assert (row["status"], row["client_secret"]) == (Payment.REQUIRES_ACTION, "s")
        for then in (INTENT, *OTHERS.values()):
            if then.status != "requires_action":
                assert after(row, then)["client_secret"] == ""

    def test_a_failure_says_why(self) -> None:
        declined = replace(OTHERS["requires_payment_method"], failure_code="lost_card")
        row = after(payment(), declined)
        assert (row["status"], row["failure_code"]) == (Payment.FAILED, "lost_card")
        assert row["idempotency_key"] == "one"

    def test_what_never_arrived_frees_its_key(self) -> None:
        row = after(payment(status=Payment.UNKNOWN), OTHERS["requires_payment_method"])
        assert row["failure_code"] == rules.NOT_RECEIVED
        assert row["idempotency_key"] is None

    @pytest.mark.parametrize("order", list(itertools.permutations([INTENT, *OTHERS.values()])))
    def test_news_in_every_order_end_in_the_capture(self, order: tuple[Intent, ...]) -> None:
        row = after(payment(), *order)
        assert (row["status"], row["captured"]) == (Payment.SUCCEEDED, 1_000)

    def test_the_same_news_again_change_nothing(self) -> None:
        for intent in (INTENT, *OTHERS.values()):
            assert rules.settle(after(payment(), intent), intent) == {}

    @pytest.mark.parametrize(
        ("intent", "code", "captured"),
        [
            (replace(INTENT, amount=999), "amount_mismatch", 1_000),
            (replace(INTENT, captured=999), "amount_mismatch", 999),
            (replace(INTENT, amount=None, captured=None), "amount_mismatch", 0),
            (replace(INTENT, currency="USD"), "currency_mismatch", 0),
            (replace(INTENT, order_id=uuid7()), "order_mismatch", 1_000),
            (replace(INTENT, payment_id=uuid7()), "order_mismatch", 0),
            (replace(INTENT, payment_id=None, order_id=None), "order_mismatch", 0),
            (replace(OTHERS["requires_action"], amount=1), "amount_mismatch", 0),
        ],
    )
    def test_what_does_not_fit_is_for_people(
        self, intent: Intent, code: str, captured: int
    ) -> None:
        row = after(payment(), intent)
        assert (row["status"], row["failure_code"]) == (Payment.REVIEW, code)
        assert row["captured"] == captured
        assert row["intent_id"] == ("pi_1" if intent.payment_id == ID else None)
        assert after(row, INTENT) == row

    @pytest.mark.parametrize("status", [Payment.FAILED, Payment.CANCELLED])
    def test_what_was_given_up_comes_back_only_with_money(self, status: int) -> None:
        dead = payment(status=status, intent_id="pi_1")
        for other in OTHERS.values():
            assert after(dead, other)["status"] == status
        assert after(dead, INTENT)["status"] == Payment.SUCCEEDED

    @pytest.mark.parametrize("status", sorted(rules.CAPTURED))
    def test_what_is_captured_stays(self, status: int) -> None:
        for intent in (INTENT, *OTHERS.values()):
            assert rules.settle(payment(status=status, captured=1_000), intent) == {}


class TestRefunds:
    def test_what_is_set_aside_cannot_be_refunded_again(self) -> None:
        row = payment(status=Payment.SUCCEEDED, captured=1_000, refund_pending=300, refunded=200)
        assert refund_rules.refundable(row) == 500
        assert refund_rules.refund_amount(row, None) == 500

    def test_sums_decide_the_status(self) -> None:
        row = payment(status=Payment.SUCCEEDED, captured=1_000)
        row |= refund_rules.with_refund(row, pending=400)
        assert row["status"] == Payment.SUCCEEDED
        row |= refund_rules.with_refund(row, pending=-400, refunded=400)
        assert row["status"] == Payment.PARTIALLY_REFUNDED
        row |= refund_rules.with_refund(row, refunded=600)
        assert row["status"] == Payment.REFUNDED
        row |= refund_rules.with_refund(row, refunded=-1_000)
        assert row["status"] == Payment.SUCCEEDED

    def test_news_of_a_refund_in_every_order_end_the_same(self) -> None:
        for order in itertools.permutations(["pending", "succeeded", "failed"]):
            row: dict[str, Any] = {"status": Refund.PROCESSING}
            for status in order:
                row["status"] = refund_rules.refund_status(row, Repayment("re_1", status, 1))
            assert row["status"] == Refund.FAILED

    def test_a_dispute_only_goes_on(self) -> None:
        assert refund_rules.is_later("lost", "needs_response")
        assert refund_rules.is_later("needs_response", "warning_closed")
        assert not refund_rules.is_later("needs_response", "won")
        assert not refund_rules.is_later("something new", "won")


class TestPauses:
    def test_open_payments_are_looked_at_within_half_a_minute(self) -> None:
        for checks in range(50):
            pause = pauses.next_pause(payment(checks=checks))
            assert pause is not None
            assert timedelta(seconds=1) <= pause <= timedelta(seconds=30)

    def test_what_nothing_can_happen_to_is_left_alone(self) -> None:
        for row in (
            payment(status=Payment.SUCCEEDED, captured=1_000),
            payment(status=Payment.REFUNDED, captured=1_000, refunded=1_000, give_back=True),
            payment(status=Payment.CANCELLED),
            payment(status=Payment.FAILED, intent_id="pi_1", intent_status="canceled"),
            payment(status=Payment.REVIEW),
        ):
            assert pauses.next_pause(row) is None

    def test_what_is_owed_is_never_forgotten(self) -> None:
        for row in (
            payment(status=Payment.SUCCEEDED, captured=1_000, give_back=True),
            payment(status=Payment.SUCCEEDED, captured=1_000, refund_pending=10),
            payment(status=Payment.REVIEW, give_back=True),
            payment(status=Payment.FAILED, intent_id="pi_1", intent_status="requires_action"),
        ):
            pause = pauses.next_pause(row | {"checks": 40})
            assert pause is not None
            assert pause <= timedelta(hours=1)
