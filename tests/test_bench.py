"""The parts of the bench that could flatter unseen: its client, and how samples are sorted."""

from __future__ import annotations

import asyncio

import pytest

from bench import http1, keys, layers, traces
from bench.load import Driver, Load, Measured

ANSWER = b"HTTP/1.1 %s\r\ncontent-length: 4\r\n\r\n%s"


async def serve(answer: bytes, pause: float, load: Load) -> tuple[Measured, list[bytes]]:
    """The load on a server that answers everything alike, one request at a time per connection."""
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.read(65536):
            heard.append(request)
            await asyncio.sleep(pause)
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        plain = Load("rest", "127.0.0.1", port, load.exchanges, seconds=load.seconds)
        wanted = Load(**(vars(plain) | {"at_once": load.at_once, "rate": load.rate, "name": "x"}))
        return await Driver(wanted).run(), heard


def load(rate: float | None, at_once: int) -> Load:
    request = http1.keyed(http1.request("POST", "/api/orders/", "token", "{}"))
    pairs = [(request.hex(), b"good".hex())]
    return Load("rest", "", 0, pairs, seconds=0.5, at_once=at_once, rate=rate)


async def test_every_sending_has_a_key_of_its_own() -> None:
    measured, heard = await serve(ANSWER % (b"201 Created", b"good"), 0.01, load(None, 4))
    sent = [line for text in heard for line in text.split(b"\r\n") if b"idempotency-key" in line]
    assert measured.wrong == 0
    assert len(sent) == len(set(sent)) == len(measured.microseconds)
    assert all(len(line) == len(b"idempotency-key: ") + len(keys.KEY) for line in sent)


@pytest.mark.parametrize(
    ("status", "body"), [(b"200 OK", b"evil"), (b"500 Error", b"good"), (b"429 Slow", b"good")]
)
async def test_answers_that_are_not_as_expected_are_counted(status: bytes, body: bytes) -> None:
    measured, _ = await serve(ANSWER % (status, body), 0.01, load(None, 2))
    assert measured.wrong == len(measured.microseconds) > 0


async def test_paced_calls_that_find_no_connection_wait_and_their_wait_counts() -> None:
    # A connection does 10 a second, and 40 are asked for: the last ones wait for the first.
    measured, _ = await serve(ANSWER % (b"200 OK", b"good"), 0.1, load(40.0, 1))
    assert measured.wrong == 0
    assert max(measured.microseconds) > 5 * 100_000


def test_a_sample_belongs_to_the_innermost_layer_that_is_known() -> None:
    stack = "run (uvloop/loop.pyx:1);observed (services/kit/interceptors.py:73)"
    assert layers.layer_of(stack) == "layers"
    assert layers.layer_of(f"{stack};page (services/catalog/search.py:9)") == "statements"
    inner = f"{stack};fetch (asyncpg/connection.py:7);loads (json/__init__.py:346)"
    assert layers.layer_of(f"{inner};strange (elsewhere.c:1)") == "JSON"
    assert layers.layer_of("main (somewhere.py:1)") == layers.OTHER


def test_samples_that_wait_have_no_share() -> None:
    found = layers.shares(
        ["run (uvloop/loop.pyx:1);epoll_pwait (libc.so.6) 90", "fetch (asyncpg/connection.py:7) 10"]
    )
    assert found == {"asyncpg": 1.0}


def test_what_traces_cost_is_told_within_each_round_and_by_call() -> None:
    def rounds(*counts: int, cpu: float, spans: int) -> traces.Rounds:
        measured = [Measured([1000] * count, 0, 1.0) for count in counts]
        return traces.Rounds(measured, cpu, spans)

    shown = traces.figures(
        {
            traces.OFF: rounds(100, 10, 100, cpu=0.21, spans=0),
            traces.ALL: rounds(50, 8, 80, cpu=0.276, spans=276),
        }
    )
    assert shown[traces.OFF] == traces.Figures(100, 1.0, 1000, 1.0, 0.0)
    assert shown[traces.ALL] == traces.Figures(50, 0.8, 2000, 2.0, 2.0)
