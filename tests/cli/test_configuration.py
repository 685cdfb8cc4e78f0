"""docs/configuration.md: all that a service can be told stands in it, and says what it is."""

from __future__ import annotations

import pytest

from cli.topology import ALL_SERVICES
from tools import configuration


def test_the_page_is_fresh() -> None:
    """Otherwise: make protos."""
    assert configuration.PAGE.read_text() == configuration.page()


@pytest.mark.parametrize("service", ALL_SERVICES)
def test_every_setting_is_in_it_and_described(service: str) -> None:
    text = configuration.PAGE.read_text()
    for name, field in configuration.settings_of(service).described().items():
        if name != "service":
            assert f"| `SHOP_{name.upper()}` |" in text
            assert field.rules.description, name


def test_what_is_required_optional_and_secret_is_told_apart() -> None:
    lines = {line.split(" | ")[0]: line for line in configuration.page().splitlines()}
    assert lines["| `SHOP_DATABASE_CONNECTIONS`"].endswith(
        "| whole number, from 1, to 200 | `10` |"
    )
    assert lines["| `SHOP_SERVICE_SECRET`"].endswith(
        "| *secret*, at least 32 characters | **required** |"
    )
    assert lines["| `SHOP_SMTP_URL`"].endswith("| *secret* |  | users, order |")
