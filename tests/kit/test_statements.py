"""Statements: written once as expressions, run with the parameters in their places."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from services.kit.db import Database, Statement
from services.kit.ids import uuid7
from tests.kit.schema import COUNT, INSERT, things

ID = sa.bindparam("of_id", type_=sa.Uuid)


class TestText:
    def test_parameters_are_numbered_and_a_repeated_one_counts_once(self) -> None:
        text = sa.bindparam("text", type_=sa.Text)
        statement = Statement(
            sa.select(things.c.id)
            .where(sa.or_(things.c.text == text, things.c.id == ID))
            .where(things.c.text != text)
        )
        assert statement.sql.count("$1") == 2
        assert statement.arguments({"of_id": 7, "text": "a"}) == ["a", 7]

    def test_values_in_the_expression_stay(self) -> None:
        statement = Statement(sa.select(things.c.id).where(things.c.version > 3).limit(2))
        assert statement.arguments({}) == [3, 2]

    def test_a_default_can_be_overridden(self) -> None:
        limit = sa.bindparam("most", 10, type_=sa.Integer)
        statement = Statement(sa.select(things.c.id).limit(limit))
        assert statement.arguments({}) == [10]
        assert statement.arguments({"most": 3}) == [3]

    def test_a_text_that_depends_on_values_is_refused(self) -> None:
        with pytest.raises(ValueError, match="ANY"):
            Statement(sa.select(things).where(things.c.id.in_(sa.bindparam("ids", expanding=True))))

    def test_a_missing_parameter_is_named(self) -> None:
        with pytest.raises(TypeError, match="of_id"):
            Statement(sa.select(things).where(things.c.id == ID)).arguments({})

    def test_an_unknown_parameter_is_refused(self) -> None:
        statement = Statement(sa.select(things).where(things.c.id == ID).limit(1))
        with pytest.raises(TypeError, match="of_id"):
            statement.arguments({"of_id": 1, "off_id": 2})


class TestRunning:
    async def test_rows_come_as_asked_for(self, database: Database) -> None:
        insert_things = Statement(
            insert(things)
            .values(id=sa.bindparam("new_id"), text=sa.bindparam("new_text"))
            .returning(things.c.id, things.c.text)
        )
        select = Statement(sa.select(things.c.text).order_by(things.c.text))
        async with database.transaction() as tx:
            row = await insert_things.one(tx, new_id=uuid7(), new_text="b")
            assert row["text"] == "b"
            assert await INSERT.run(tx, new_id=uuid7(), new_text="a") == 1
            assert [row["text"] for row in await select.all(tx)] == ["a", "b"]
            first = await select.first(tx)
            assert first is not None
            assert first["text"] == "a"
            assert await COUNT.value(tx) == 2

    async def test_nothing_is_none_or_an_error_as_promised(self, database: Database) -> None:
        select = Statement(sa.select(things.c.text))
        async with database.connection() as connection:
            assert await select.first(connection) is None
            assert await select.value(connection) is None
            with pytest.raises(LookupError):
                await select.one(connection)

    async def test_the_number_of_touched_rows(self, database: Database) -> None:
        ids = [uuid7() for _ in range(3)]
        touch = Statement(
            sa.update(things)
            .where(things.c.id == sa.any_(sa.bindparam("ids", type_=ARRAY(sa.Uuid))))
            .values(version=things.c.version + 1)
        )
        async with database.transaction() as tx:
            for id in ids:
                await INSERT.run(tx, new_id=id, new_text="")
            assert await touch.run(tx, ids=ids[:2]) == 2
            assert await touch.run(tx, ids=[]) == 0

    @pytest.mark.parametrize(
        "extra", [{"a": [1, None, "ü\u2028"]}, [], "text", 7, {"nested": {"x": 1.5}}]
    )
    async def test_json_is_a_python_object_on_both_sides(
        self, database: Database, extra: Any
    ) -> None:
        store = Statement(
            insert(things)
            .values(id=sa.bindparam("new_id"), extra=sa.bindparam("new_extra"))
            .returning(things.c.extra)
        )
        async with database.connection() as connection:
            assert await store.value(connection, new_id=uuid7(), new_extra=extra) == extra
            raw = await connection.fetchval("SELECT extra::text FROM kit.things")
            assert json.loads(raw) == extra
