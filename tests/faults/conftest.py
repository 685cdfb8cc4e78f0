"""A shop whose parts are killed, stopped and held up. Every test leaves it as it found it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.traffic import PATIENCE_SECONDS, until
from tests.shop import running
from tests.visitors import Shop, visiting

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them, so that `-m "not faults"` leaves them out."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="package")
async def _shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    async with (
        running(folder, "--port", "0", SHOP_ORDER_HEARTBEAT_SECONDS="1") as up,
        visiting(up) as shop,
    ):
        yield shop


@pytest.fixture
async def shop(_shop: Shop) -> AsyncIterator[Shop]:
    """The shop. What a test did to it has to be over by the end."""
    await _shop.renew()
    yield _shop

    async def well() -> bool:
        users = await _shop.staff.get("/api/users/me/")
        products = await _shop.nobody.get("/api/products/", page_size=1)
        return users.is_success and products.is_success

    await until(well, PATIENCE_SECONDS)
