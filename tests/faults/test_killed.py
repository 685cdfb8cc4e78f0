"""Parts of a running shop are killed while it is called: who notices, and what is lost."""

from __future__ import annotations

import signal
import time

import pytest

from tests.faults.inside import accepts, asks, audit, connected, others, part, skus
from tests.faults.traffic import PATIENCE_SECONDS, Additions, calling, until
from tests.sizes import promised
from tests.visitors import Shop, answered


@pytest.mark.parametrize(("killed", "other"), [("catalog", "users"), ("users", "catalog")])
async def test_a_killed_service_is_back_and_the_other_one_unharmed(
    shop: Shop, killed: str, other: str
) -> None:
    ask, unharmed = asks(shop)[killed], asks(shop)[other]
    before, neighbours = part(shop, f"services.{killed}"), others(shop, f"services.{killed}")
    async with calling(ask) as own, calling(unharmed) as calls:
        await own.more(5)
        before.send(signal.SIGKILL)
        dead = time.monotonic()

        def replaced() -> bool:
            now = shop.up.find(f"services.{killed}")
            return now is not None and now.pid != before.pid

        await until(replaced, PATIENCE_SECONDS)
        again = time.monotonic()
        await until(lambda: bool(own.good_after(again)), PATIENCE_SECONDS)
        assert own.good_after(again)[0].ended - dead < promised(3)
        await calls.more(20)
    assert calls.harmed == []
    assert len(calls.calls) > 20
    assert others(shop, f"services.{killed}") == neighbours
    assert {call.reason for call in own.harmed} <= {"DEPENDENCY_UNAVAILABLE", "INTERRUPTED"}
    assert max((call.seconds for call in own.harmed), default=0) < promised(2)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["killed", "restarted"])
async def test_what_was_written_is_there_after_postgres_was(
    shop: Shop, end: signal.Signals
) -> None:
    """Promise E8; SIGINT is its fast shutdown."""
    additions = Additions(shop)
    postmaster, neighbours = part(shop, "/postgres "), others(shop, "/postgres ")
    async with calling(additions, at_once=4) as writes, calling(asks(shop)["users"]) as reads:
        await writes.more(40)
        postmaster.send(end)
        await until(lambda: shop.up.find("/postgres ") not in (None, postmaster), PATIENCE_SECONDS)
        again = time.monotonic()
        await until(lambda: accepts(shop), PATIENCE_SECONDS)
        back = time.monotonic()
        await writes.more(40)
        await reads.more(5)
    for traffic in (writes, reads):
        assert traffic.good_after(again)[0].ended - back < promised(2)
    assert others(shop, "/postgres ") == neighbours  # no service had to be started again
    assert writes.reasons | reads.reasons <= {"DEPENDENCY_UNAVAILABLE", "DEADLINE_EXCEEDED"}

    async with connected(shop) as database:
        assert additions.acknowledged <= await skus(database)

        # What was refused may have happened or not. Repeated with its key, it has happened once.
        for key in additions.answers.keys() - additions.acknowledged:
            answered(await additions.add(key), 201)
        assert await skus(database) >= additions.answers.keys()
        assert await audit(database) == []


async def test_a_killed_envoy_is_back(shop: Shop) -> None:
    before = part(shop, "/envoy ")
    async with calling(asks(shop)["users"]) as traffic:
        before.send(signal.SIGKILL)
        dead = time.monotonic()
        await until(lambda: shop.up.find("/envoy ") not in (None, before), PATIENCE_SECONDS)
        await traffic.more(5)
    assert traffic.good_after(dead)[0].ended - dead < promised(3)
