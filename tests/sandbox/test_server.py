"""The process: what survives being killed, how it stops, and what its options do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.sandbox.purchases import order, pay
from tests.sandbox.running import ROOT, Receiver, Sandbox, eventually, receiving

Start = Callable[..., Sandbox]


@pytest.fixture
def start() -> Iterator[Start]:
    """Sandboxes of the test's own; what still runs at its end is killed."""
    running: list[Sandbox] = []

    def begin(*options: object, port: int = 0) -> Sandbox:
        running.append(Sandbox(*map(str, options), port=port))
        return running[-1]

    yield begin
    for each in running:
        if each.process.poll() is None:
            each.kill()


@pytest.fixture
def shop() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def test_what_was_answered_survives_a_kill(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "stripe.sqlite"
    first = start("--data", data)
    client = first.client()
    answered: list[str] = []

    def buy() -> None:
        for number in range(10_000):
            try:
                made = client.v1.payment_intents.create(order(), {"idempotency_key": f"k{number}"})
            except stripe.APIConnectionError:
                return
            answered.append(made.id)

    buyer = threading.Thread(target=buy)
    buyer.start()
    eventually(lambda: len(answered) >= 30, "some are answered")
    first.process.kill()
    buyer.join()
    first.kill()
    second = start("--data", data)
    client = second.client()
    found = [each.id for each in client.v1.payment_intents.list({"limit": 100}).auto_paging_iter()]
    assert set(answered) <= set(found)
    assert len(found) <= len(answered) + 1
    # The one whose answer was lost, if it happened, is found again by its key.
    again = client.v1.payment_intents.create(order(), {"idempotency_key": f"k{len(answered)}"})
    amount = client.v1.balance.retrieve().available[0].amount
    assert amount == 2500 * (len(answered) + 1)
    assert (again.id in found) == (len(found) == len(answered) + 1)


def test_the_clock_keys_and_undelivered_events_survive_a_kill(
    start: Start, tmp_path: Path, shop: Receiver
) -> None:
    options = ["--data", tmp_path / "s", "--webhook-url", shop.url, "--webhook-secret", "whsec_1"]
    first = start(*options)
    first.advance(3600)
    first.fault("delay_event", times=None, seconds=1.0)
    made = first.client().v1.payment_intents.create(order(), {"idempotency_key": "k"})
    first.kill()
    assert shop.deliveries == []
    second = start(*options)
    again = second.client().v1.payment_intents.create(order(), {"idempotency_key": "k"})
    assert again.id == made.id
    assert second.control("GET", "/clock")["advanced"] == 3600
    eventually(lambda: len(shop.deliveries) == 3, "the events of before arrive")
    assert stripe.Webhook.construct_event(
        shop.deliveries[0].body, shop.deliveries[0].signature, "whsec_1"
    )


def test_sigterm_lets_requests_finish(start: Start) -> None:
    sandbox = start()
    sandbox.fault("delay_request", seconds=0.5)
    answers: list[Any] = []
    client = sandbox.client()
    buyer = threading.Thread(target=lambda: answers.append(pay(client)))
    buyer.start()
    eventually(sandbox.seen, "the request is under way")
    assert sandbox.stop() == 0
    buyer.join()
    assert answers[0].status == "succeeded"


def test_log_lines_are_json_without_secrets(start: Start, shop: Receiver) -> None:
    sandbox = start("--webhook-url", shop.url, "--webhook-secret", "whsec_hidden")
    pay(sandbox.client("sk_test_hidden_key"))
    eventually(lambda: len(shop.deliveries) == 3, "events arrive")
    sandbox.stop()
    lines = [json.loads(line) for line in sandbox.lines]
    assert {line["event"] for line in lines} >= {"listening", "request", "event sent", "stopped"}
    assert "hidden" not in "".join(sandbox.lines)


def test_one_key_may_be_the_only_one(start: Start) -> None:
    sandbox = start("--api-key", "sk_test_ours_1234")
    assert pay(sandbox.client("sk_test_ours_1234")).status == "succeeded"
    with pytest.raises(stripe.AuthenticationError):
        pay(sandbox.client("sk_test_other_1234"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--api-key", "sk_live_0123456789"], "test key"),
        (["--log-format", "xml"], "json or pretty"),
        (["--log-level", "loud"], "debug, info"),
    ],
)
def test_wrong_options_are_refused(options: list[str], says: str) -> None:
    ended = command("--port", "0", *options)
    assert ended.returncode == 2
    assert says in ended.stderr


def test_a_taken_port_is_named(start: Start) -> None:
    port = start().port
    ended = command("--port", str(port))
    assert ended.returncode == 1
    assert f"Port {port} on 127.0.0.1 cannot be used" in ended.stderr


def command(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox.stripe", *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
