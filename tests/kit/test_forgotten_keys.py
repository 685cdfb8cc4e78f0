"""Idempotency keys that are over: after a day, and with the user whom they tell about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from services.kit import idempotency
from services.kit.call import NOBODY
from services.kit.db import Database
from services.kit.ids import uuid7
from tests.kit.schema import metadata
from tests.kit.things import Thing


class TestForgetting:
    async def test_what_tells_about_a_user_goes_with_them(
        self, database: Database, owner_connection: asyncpg.Connection
    ) -> None:
        keys = idempotency.Keys(metadata)
        user, other = uuid7(), uuid7()
        for number, (scope, subject) in enumerate(
            [(f"user:{user}", ""), ("service:x", str(user)), (f"user:{other}", str(other))]
        ):
            await owner_connection.execute(
                "INSERT INTO kit.idempotency_keys (scope, method, key, fingerprint, subject) "
                "VALUES ($1, '/m', $2, '', $3)",
                scope,
                str(number),
                subject,
            )
        async with database.transaction() as tx:
            assert await keys.forget_user(tx, user) == 2
        left = await owner_connection.fetch("SELECT scope FROM kit.idempotency_keys")
        assert [row["scope"] for row in left] == [f"user:{other}"]

    async def test_a_day_later_they_are_gone(
        self, database: Database, owner_connection: asyncpg.Connection
    ) -> None:
        await owner_connection.execute(
            "INSERT INTO kit.idempotency_keys (scope, method, key, fingerprint, create_time) "
            "SELECT 'anyone', '/m', n::text, '', now() - n * interval '1 minute' "
            "FROM generate_series(0, 3000) n"
        )
        await database.forget_old_keys()
        left = await owner_connection.fetchval("SELECT max(create_time) FROM kit.idempotency_keys")
        assert datetime.now(UTC) - left < timedelta(minutes=2)
        assert await owner_connection.fetchval("SELECT count(*) FROM kit.idempotency_keys") in (
            1440,
            1441,
        )

    async def test_a_key_that_vanishes_meanwhile_is_simply_new(self, database: Database) -> None:
        keys = idempotency.Keys(metadata)
        claimed = idempotency.claim("k", "/m", NOBODY, b"", [b"secret"], Thing)
        async with database.transaction() as tx:
            await keys.claim(tx, claimed)
            await keys.store(tx, claimed, Thing(text="a").SerializeToString(), "", "")
        async with database.transaction() as tx:
            with pytest.raises(idempotency.Replay) as raised:
                await keys.claim(tx, claimed)
        assert raised.value.answer == Thing(text="a")
        async with database.connection() as connection:
            assert await keys.forget_old(connection, datetime.now(UTC)) == 1
        async with database.transaction() as tx:
            await keys.claim(tx, claimed)
