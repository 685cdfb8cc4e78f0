"""What is installed is pinned by hash, and says nothing about where it came from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINNED = [f"requirements{of}.txt" for of in ("", "-bench", "-dev", "-tracing", "-uv")]


@pytest.mark.parametrize("name", PINNED)
def test_every_requirement_is_pinned_with_hashes(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[\w.-]+==[\w.]+ .*--hash=sha256:[0-9a-f]{64}", line), line


@pytest.mark.parametrize("name", [*PINNED, *(name.replace(".txt", ".in") for name in PINNED)])
def test_no_file_of_requirements_names_an_address(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"://| @ |--(extra-)?index|--find-links|--trusted-host", text)


def test_what_the_shop_asks_for_is_what_is_pinned() -> None:
    asked = re.findall(r"^([\w-]+)", (ROOT / "requirements.in").read_text(), re.MULTILINE)
    pinned = (ROOT / "requirements.txt").read_text()
    assert [name for name in asked if not re.search(rf"^{name}==", pinned, re.MULTILINE)] == []
