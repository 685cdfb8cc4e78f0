"""The TypeScript client, built from the contract, buys something over REST and over gRPC-Web."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.shop import ROOT, command
from tests.visitors import Shop

CLIENT = ROOT / "clients" / "web"
LOCK = CLIENT / "package-lock.json"
SECONDS = 300.0

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")),
    reason="NODE IS ABSENT: the web client was neither built nor tested",
)


async def run(*parts: str, **environment: str) -> str:
    """What a command that has to succeed printed."""
    env = os.environ | environment
    ended = await command(*parts, cwd=CLIENT, env=env, seconds=SECONDS)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
async def built() -> None:
    """Its packages installed as the lock file says, its types generated and checked."""
    installed = CLIENT / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < LOCK.stat().st_mtime:
        await run("npm", "ci")
    await run("npm", "run", "build")


@pytest.mark.usefixtures("built")
async def test_it_buys_over_rest_and_over_grpc_web(shop: Shop) -> None:
    await shop.new_product(stock=50)
    said = await run(
        "node", "--test", "--test-reporter=tap", "dist/test/", SHOP_URL=shop.ready.edge
    )
    assert "# pass 2\n" in said, said
    assert "# skipped 0\n" in said, said


def test_its_lock_file_names_hashes_and_no_addresses() -> None:
    text = LOCK.read_text()
    assert text.count('"integrity": "sha512-') > 20
    assert '"resolved"' not in text
