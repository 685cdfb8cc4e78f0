"""One shop for all tests of this folder: all of it as `shop up` starts it, called through Envoy."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.shop import SHOP, command, running
from tests.visitors import PASSWORD, Shop, open_doors, visiting

ADMIN = "admin@example.com"
# All that can be logged is: what must not be in any log is looked for there.
EVERYTHING = {"SHOP_LOG_LEVEL": "debug", "SHOP_ACCESS_LOG": "all"}


@contextlib.asynccontextmanager
async def opened(folder: Path, **told: str) -> AsyncIterator[Shop]:
    """A shop with an administrator and somebody of the staff."""
    async with (
        running(folder, "--port", "0", "--no-demo", **EVERYTHING, **told) as up,
        visiting(up) as shop,
    ):
        made = await command(
            *(SHOP, "create-admin", ADMIN, "--password", PASSWORD, "--data", up.data),
            env=os.environ | told,
        )
        assert made.returncode == 0, made.stderr
        await open_doors(shop, ADMIN, PASSWORD)
        yield shop


@pytest.fixture(scope="package")
async def _shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """Not for the whole run: it has work to do when nobody calls it, too."""
    async with opened(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture
async def shop(_shop: Shop) -> Shop:
    """The shop, with an administrator and somebody of the staff, and nothing to sell."""
    await _shop.renew()
    return _shop


@pytest.fixture(params=["", "/"], ids=["bare", "slash"])
def slash(request: pytest.FixtureRequest) -> str:
    """Every path is there in two forms."""
    return str(request.param)


@pytest.fixture
async def nothing_stored(shop: Shop) -> AsyncIterator[None]:
    """No row of any table is another one after the test."""
    before = await shop.rows()
    yield
    assert await shop.rows() == before
