"""Each service's role works in its own schema and nowhere else (E15)."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
import pytest

from cli.topology import ALL_SERVICES


@pytest.mark.parametrize("service", ALL_SERVICES)
async def test_can_login(service: str, database_url: Callable[[str], str]) -> None:
    c = await asyncpg.connect(database_url(service))
    assert await c.fetchval("select current_user") == f"shop_{service}"
    await c.close()


async def test_empty(empty_database: None) -> None:
    pass
