"""What is refused before any endpoint is reached: keys, versions, card numbers, odd requests."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.sandbox.purchases import order, pay
from tests.sandbox.running import KEY, Sandbox

NUMBER = "4242424242424242"
HEADERS = {"authorization": f"Bearer {KEY}"}


class TestKeys:
    @pytest.mark.parametrize("key", ["sk_live_0123456789abcdef", "rk_live_0123456789abcdef"])
    def test_live_keys_are_refused_plainly(self, sandbox: Sandbox, key: str) -> None:
        with pytest.raises(stripe.AuthenticationError, match="refuses live keys"):
            pay(sandbox.client(key))
        assert key not in "".join(sandbox.lines)
        assert key not in str(sandbox.seen())

    @pytest.mark.parametrize("key", ["pk_test_0123456789abcdef", "nonsense", "sk_test_"])
    def test_other_keys_are_refused(self, sandbox: Sandbox, key: str) -> None:
        with pytest.raises(stripe.AuthenticationError) as raised:
            pay(sandbox.client(key))
        assert raised.value.http_status == 401

    def test_no_key_is_refused(self, sandbox: Sandbox) -> None:
        answer = sandbox.http.get("/v1/balance")
        assert answer.status_code == 401
        assert "You did not provide an API key" in answer.json()["error"]["message"]

    def test_basic_works_as_with_curl(self, sandbox: Sandbox) -> None:
        assert sandbox.http.get("/v1/balance", auth=(KEY, "")).status_code == 200


class TestHeaders:
    def test_answers_have_an_id_and_the_version(self, client: stripe.StripeClient) -> None:
        headers: Any = client.v1.balance.retrieve().last_response.headers  # type: ignore[union-attr]
        assert headers["request-id"].startswith("req_")
        assert headers["stripe-version"] == "2026-10-28.endive"

    def test_a_version_that_is_none_is_refused(self, sandbox: Sandbox) -> None:
        headers = HEADERS | {"stripe-version": "latest"}
        assert sandbox.http.get("/v1/balance", headers=headers).status_code == 400


class TestCardNumbers:
    @pytest.mark.parametrize(
        "form",
        [
            {"type": "card", "card[number]": NUMBER, "card[exp_month]": "1"},
            {"type": "card", "payment_method_data[card][number]": NUMBER},
            {"type": "card", "source[number]": NUMBER},
            {"payment_method": "4242 4242 4242 4242"},
        ],
    )
    def test_raw_ones_are_refused_and_forgotten(
        self, sandbox: Sandbox, form: dict[str, str]
    ) -> None:
        for path in ("/v1/payment_methods", "/v1/payment_intents"):
            answer = sandbox.http.post(path, data=form, headers=HEADERS)
            assert answer.status_code == 402
            error = answer.json()["error"]
            assert "generally unsafe" in error["message"]
            assert error["type"] == "invalid_request_error"
        everything = "".join(sandbox.lines) + str(sandbox.seen())
        assert NUMBER not in everything.replace(" ", "")

    def test_in_metadata_they_are_not_shown_to_testers(
        self, sandbox: Sandbox, client: stripe.StripeClient
    ) -> None:
        pay(client, metadata={"note": f"card {NUMBER}"})
        assert NUMBER not in str(sandbox.seen())
        assert NUMBER not in "".join(sandbox.lines)


class TestOddRequests:
    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/v1/nothing"), ("DELETE", "/v1/refunds"), ("GET", "/"), ("POST", "/v1/balance")],
    )
    def test_unknown_urls_get_stripes_error(self, sandbox: Sandbox, method: str, path: str) -> None:
        answer = sandbox.http.request(method, path, headers=HEADERS)
        assert answer.status_code == 404
        assert answer.json()["error"]["message"].startswith("Unrecognized request URL")

    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            (b'{"amount": 5}', "application/json"),
            (b"amount[=5", "application/x-www-form-urlencoded"),
            (b"amount=5&amount[x]=5", "application/x-www-form-urlencoded"),
            (b"amount=%ff", "application/x-www-form-urlencoded"),
            (b"\xff", "application/x-www-form-urlencoded"),
            (b"a=" * 2000, "application/x-www-form-urlencoded"),
            (b"&".join(b"a=1" for _ in range(2000)), "application/x-www-form-urlencoded"),
        ],
    )
    def test_bodies_that_are_no_forms_are_400(
        self, sandbox: Sandbox, body: bytes, kind: str
    ) -> None:
        answer = sandbox.http.post(
            "/v1/payment_intents", content=body, headers=HEADERS | {"content-type": kind}
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"

    def test_huge_bodies_are_refused(self, sandbox: Sandbox) -> None:
        headers = HEADERS | {"content-type": "application/x-www-form-urlencoded"}
        answer = sandbox.http.post("/v1/refunds", content=b"a" * 400_000, headers=headers)
        assert answer.status_code == 413

    def test_what_does_not_exist_is_404(self, client: stripe.StripeClient) -> None:
        asks: list[Any] = [
            lambda: client.v1.payment_intents.retrieve("pi_nobody"),
            lambda: client.v1.payment_intents.confirm("pi_nobody"),
            lambda: client.v1.refunds.retrieve("re_nobody"),
            lambda: client.v1.charges.retrieve("ch_nobody"),
            lambda: client.v1.events.retrieve("evt_nobody"),
            lambda: client.v1.disputes.retrieve("du_nobody"),
            lambda: client.v1.payment_methods.retrieve("pm_nobody"),
        ]
        for ask in asks:
            with pytest.raises(stripe.InvalidRequestError) as raised:
                ask()
            assert (raised.value.http_status, raised.value.code) == (404, "resource_missing")

    def test_one_kind_is_not_found_under_anothers_id(self, client: stripe.StripeClient) -> None:
        intent = client.v1.payment_intents.create(order())
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.charges.retrieve(intent.id)
