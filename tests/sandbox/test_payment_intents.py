"""PaymentIntents through the real SDK: their states, their money, lists and search."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.sandbox.purchases import balance, error_of, order, pay
from tests.sandbox.running import Sandbox, eventually


class TestCreate:
    def test_a_good_card_pays_at_once(self, client: stripe.StripeClient) -> None:
        intent = pay(client, metadata={"order_id": "7", "12": "digits"}, expand=["latest_charge"])
        assert (intent.status, intent.amount_received) == ("succeeded", 2500)
        assert intent.metadata.to_dict() == {"order_id": "7", "12": "digits"}
        charge = intent.latest_charge
        assert isinstance(charge, stripe.Charge)
        assert (charge.status, charge.captured, charge.amount_captured) == ("succeeded", True, 2500)
        assert balance(client) == {"usd": 2500}

    def test_an_unconfirmed_one_waits_and_is_then_confirmed(
        self, client: stripe.StripeClient
    ) -> None:
        created = client.v1.payment_intents.create(
            {"amount": 1, "currency": "EUR", "allowed_payment_method_types": ["card"]}
        )
        assert (created.status, created.currency) == ("requires_payment_method", "eur")
        with pytest.raises(stripe.InvalidRequestError) as raised:
            client.v1.payment_intents.confirm(created.id)
        assert error_of(raised)["code"] == "payment_intent_unexpected_state"
        confirmed = client.v1.payment_intents.confirm(
            created.id, {"payment_method": "pm_card_mastercard"}
        )
        assert confirmed.status == "succeeded"

    async def test_async_calls_work_too(self, async_client: stripe.StripeClient) -> None:
        intent = await async_client.v1.payment_intents.create_async(order())
        again = await async_client.v1.payment_intents.retrieve_async(intent.id)
        assert again.status == "succeeded"

    @pytest.mark.parametrize(
        ("wrong", "param", "code"),
        [
            ({"amount": 0}, "amount", "parameter_invalid_integer"),
            ({"amount": -5}, "amount", "parameter_invalid_integer"),
            ({"amount": "1.5"}, "amount", "parameter_invalid_integer"),
            ({"amount": 10**8}, "amount", "amount_too_large"),
            ({"amount": None}, "amount", "parameter_missing"),
            ({"currency": "zzz"}, "currency", None),
            ({"currency": "xau"}, "currency", None),
            ({"payment_method": "pm_nobody"}, "payment_method", "resource_missing"),
            ({"return_url": "javascript:1"}, "return_url", "url_invalid"),
            ({"colour": "blue"}, "colour", "parameter_unknown"),
            ({"expand": ["latest_charge.nothing"]}, "expand", None),
            (
                {"payment_method_types": ["card"]},
                "payment_method_types",
                "payment_method_types_no_longer_supported",
            ),
            ({"allowed_payment_method_types": ["ideal"]}, "allowed_payment_method_types", None),
            ({"customer": "cus_1"}, "customer", "resource_missing"),
        ],
    )
    def test_wrong_parameters_are_named_and_nothing_is_created(
        self,
        client: stripe.StripeClient,
        wrong: dict[str, object],
        param: str,
        code: str | None,
    ) -> None:
        asked: Any = {name: value for name, value in (order() | wrong).items() if value is not None}
        with pytest.raises(stripe.InvalidRequestError) as raised:
            client.v1.payment_intents.create(asked)
        assert raised.value.http_status == 400
        assert error_of(raised).get("param") == param
        assert error_of(raised).get("code") == code
        assert client.v1.payment_intents.list().data == []
        assert client.v1.events.list().data == []

    def test_enabled_payment_methods_need_a_return_url(self, client: stripe.StripeClient) -> None:
        asked: Any = {
            "amount": 5,
            "currency": "usd",
            "payment_method": "pm_card_visa",
            "confirm": True,
        }
        with pytest.raises(stripe.InvalidRequestError, match="you must provide a `return_url`"):
            client.v1.payment_intents.create(asked)
        never = {"automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}
        for more in (never, {"return_url": "https://shop.example/"}):
            assert client.v1.payment_intents.create(asked | more).status == "succeeded"


class TestCurrencies:
    @pytest.mark.parametrize(
        ("currency", "amount"), [("jpy", 1), ("kwd", 1230), ("usd", 1), ("isk", 500), ("mga", 3)]
    )
    def test_each_is_charged_in_its_own_minor_unit(
        self, client: stripe.StripeClient, currency: str, amount: int
    ) -> None:
        intent = pay(client, amount=amount, currency=currency)
        client.v1.refunds.create({"payment_intent": intent.id})
        pay(client, amount=amount, currency=currency)
        assert balance(client) == {currency: amount}

    @pytest.mark.parametrize(("currency", "amount"), [("kwd", 1234), ("bhd", 1), ("isk", 550)])
    def test_amounts_that_stripe_cannot_charge_are_refused(
        self, client: stripe.StripeClient, currency: str, amount: int
    ) -> None:
        with pytest.raises(stripe.InvalidRequestError) as raised:
            pay(client, amount=amount, currency=currency)
        assert error_of(raised)["code"] == "invalid_charge_amount_no_decimal_compatible"


class TestCapture:
    def test_a_hold_is_captured_in_part_and_the_rest_released(
        self, client: stripe.StripeClient
    ) -> None:
        held = pay(client, capture_method="manual")
        assert (held.status, held.amount_capturable) == ("requires_capture", 2500)
        assert balance(client) == {}
        with pytest.raises(stripe.InvalidRequestError) as raised:
            client.v1.payment_intents.capture(held.id, {"amount_to_capture": 2501})
        assert error_of(raised)["code"] == "amount_too_large"
        taken = client.v1.payment_intents.capture(held.id, {"amount_to_capture": 1000})
        assert (taken.status, taken.amount_received) == ("succeeded", 1000)
        with pytest.raises(stripe.InvalidRequestError, match="already been captured"):
            client.v1.payment_intents.capture(held.id)
        with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded"):
            client.v1.refunds.create({"payment_intent": held.id, "amount": 1001})
        assert client.v1.refunds.create({"payment_intent": held.id}).amount == 1000

    def test_a_hold_expires_after_a_week(
        self, sandbox: Sandbox, client: stripe.StripeClient
    ) -> None:
        held = pay(client, capture_method="manual")
        sandbox.advance(7 * 86400 + 1)
        eventually(
            lambda: client.v1.payment_intents.retrieve(held.id).status == "canceled", "it expires"
        )
        assert client.v1.payment_intents.retrieve(held.id).cancellation_reason == "automatic"


class TestCancel:
    def test_what_is_unpaid_ends_for_good(self, client: stripe.StripeClient) -> None:
        created = client.v1.payment_intents.create({"amount": 5, "currency": "usd"})
        ended = client.v1.payment_intents.cancel(created.id, {"cancellation_reason": "abandoned"})
        assert (ended.status, ended.cancellation_reason) == ("canceled", "abandoned")
        with pytest.raises(stripe.InvalidRequestError) as raised:
            client.v1.payment_intents.confirm(created.id, {"payment_method": "pm_card_visa"})
        error = error_of(raised)
        assert error["code"] == "payment_intent_unexpected_state"
        assert error["payment_intent"]["status"] == "canceled"

    def test_a_hold_is_given_back(self, client: stripe.StripeClient) -> None:
        held = pay(client, capture_method="manual", expand=["latest_charge"])
        client.v1.payment_intents.cancel(held.id)
        assert isinstance(held.latest_charge, stripe.Charge)
        charge = client.v1.charges.retrieve(held.latest_charge.id)
        assert (charge.refunded, charge.captured) == (True, False)
        assert balance(client) == {}

    def test_what_is_paid_stays_paid(self, client: stripe.StripeClient) -> None:
        paid = pay(client)
        with pytest.raises(stripe.InvalidRequestError, match="status of succeeded"):
            client.v1.payment_intents.cancel(paid.id)
        with pytest.raises(stripe.InvalidRequestError, match="already succeeded"):
            client.v1.payment_intents.confirm(paid.id)
        assert balance(client) == {"usd": 2500}


class TestUpdate:
    def test_an_unpaid_one_changes_and_a_paid_one_keeps_its_amount(
        self, client: stripe.StripeClient
    ) -> None:
        created = client.v1.payment_intents.create({"amount": 5, "currency": "usd"})
        changed = client.v1.payment_intents.update(created.id, {"amount": 6, "description": "x"})
        assert (changed.amount, changed.description) == (6, "x")
        paid = pay(client, metadata={"a": "1", "b": "2"})
        with pytest.raises(stripe.InvalidRequestError, match="could not be updated"):
            client.v1.payment_intents.update(paid.id, {"amount": 6})
        marked = client.v1.payment_intents.update(paid.id, {"metadata": {"a": "", "c": "3"}})
        assert marked.metadata.to_dict() == {"b": "2", "c": "3"}


class TestLists:
    def test_pages_show_each_once_newest_first(self, client: stripe.StripeClient) -> None:
        made = [pay(client, amount=number).id for number in range(1, 8)]
        first = client.v1.payment_intents.list({"limit": 3})
        assert ([each.id for each in first.data], first.has_more) == (made[:3:-1], True)
        walked = [each.id for each in first.auto_paging_iter()]
        assert walked == made[::-1]
        before = client.v1.payment_intents.list({"limit": 2, "ending_before": made[2]})
        assert [each.id for each in before.data] == [made[4], made[3]]

    def test_created_bounds_are_kept(self, sandbox: Sandbox, client: stripe.StripeClient) -> None:
        early = pay(client)
        sandbox.advance(3600)
        late = pay(client)
        found = client.v1.payment_intents.list({"created": {"gt": early.created}})
        assert [each.id for each in found.data] == [late.id]
        assert late.created - early.created >= 3600

    def test_an_unknown_cursor_or_limit_is_refused(self, client: stripe.StripeClient) -> None:
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.payment_intents.list({"starting_after": "pi_nobody"})
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.payment_intents.list({"limit": 101})

    def test_search_finds_by_metadata_and_status(self, client: stripe.StripeClient) -> None:
        wanted = pay(client, metadata={"order_id": "7"})
        pay(client, metadata={"order_id": "8"})
        query = "metadata['order_id']:'7' AND status:'succeeded' AND amount>=2500"
        found = client.v1.payment_intents.search({"query": query})
        assert [each.id for each in found.data] == [wanted.id]
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.payment_intents.search({"query": "1=1; DROP TABLE objects"})


class TestProcessing:
    @pytest.mark.parametrize(
        ("outcome", "status"), [("succeeded", "succeeded"), ("failed", "requires_payment_method")]
    )
    def test_a_slow_payment_is_settled_later(
        self, sandbox: Sandbox, client: stripe.StripeClient, outcome: str, status: str
    ) -> None:
        sandbox.fault("settle_later", seconds=600, outcome=outcome)
        intent = pay(client)
        assert (intent.status, balance(client)) == ("processing", {})
        with pytest.raises(stripe.InvalidRequestError, match="status of processing"):
            client.v1.payment_intents.cancel(intent.id)
        sandbox.advance(601)
        eventually(
            lambda: client.v1.payment_intents.retrieve(intent.id).status == status, "it settles"
        )
        assert balance(client) == ({"usd": 2500} if outcome == "succeeded" else {})
