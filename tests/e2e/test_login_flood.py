"""Many who sign in at once do not stand in the way of others (promise A9).

The edge's limits are lifted: this is what a flood from many addresses would meet. Flood and others
are sent by processes of their own, so that neither waits for the other before it is sent.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from bench import http1
from bench.load import Load, Measured
from bench.sending import measure
from tests.sizes import WHOLE
from tests.visitors import Shop

A_SECOND = 100
SECONDS = 30 if WHOLE else 3
# Others call so often.
OTHERS_A_SECOND = 40
# Who is watched comes when the flood is there, and has gone before it ebbs.
SOONER, LONGER = 1, 2
# Who is refused is out of the way; who is let in waits for about a second.
MOST_AT_ONCE = 4 * A_SECOND
REFUSALS = [text.encode().hex() for text in ('"reason":"OVERLOADED"', '"reason": "OVERLOADED"')]


async def test_other_calls_are_answered_as_ever(shop: Shop) -> None:
    ada, product = await shop.sign_up(), await shop.new_product()
    body = json.dumps({"email": ada.email, "password": ada.password})
    others = _load(
        shop,
        (http1.request("GET", f"/api/products/{product['id']}/"), product["id"]),
        (http1.request("GET", "/api/users/me/", ada.token), ada.email),
    )
    logins = _load(shop, (http1.request("POST", "/api/auth/login/", body=body), "access_token"))
    longer = replace(logins, rate=A_SECOND, at_once=MOST_AT_ONCE, seconds=SOONER + SECONDS + LONGER)
    # Half of it before and half of it after, as the machine may have other things to do.
    half = replace(others, seconds=SECONDS / 2)
    before = await measure(half)
    flood = asyncio.create_task(measure(longer))
    await asyncio.sleep(SOONER)
    busy = await measure(others)
    flooded = await flood
    after = await measure(half)
    for each in (before, busy, after):
        assert each.wrong == 0, each.wrong_answers
    # What is too much is refused at once; a machine that is busy otherwise may be late as well.
    late = 0 if WHOLE else _late(flooded)
    assert flooded.wrong == late, flooded.wrong_answers
    assert len(flooded.microseconds) - flooded.wrong > SECONDS
    if WHOLE:
        quiet, loud = _p99(before, after), _p99(busy)
        told = (quiet, loud, len(flooded.microseconds), len(flooded.refused))
        assert loud <= 2 * quiet, told


def _load(shop: Shop, *exchanges: tuple[bytes, str]) -> Load:
    host, _, port = shop.ready.edge.removeprefix("http://").rpartition(":")
    pairs = [(request.hex(), expected.encode().hex()) for request, expected in exchanges]
    return Load(
        "rest",
        host,
        int(port),
        pairs,
        seconds=SECONDS,
        at_once=OTHERS_A_SECOND,
        rate=OTHERS_A_SECOND,
        refusals=REFUSALS,
    )


def _late(measured: Measured) -> int:
    """How many ran out of time."""
    answers = measured.wrong_answers.items()
    return sum(count for text, count in answers if text.startswith("HTTP/1.1 504"))


def _p99(*measured: Measured) -> float:
    """Milliseconds."""
    times = sorted(time for each in measured for time in each.microseconds)
    return times[len(times) * 99 // 100] / 1000
