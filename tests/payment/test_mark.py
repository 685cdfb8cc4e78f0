"""What marks a shop's payments at Stripe outlives the services' secret."""

from __future__ import annotations

import pytest

from services.kit.settings import SettingsError
from services.payment.__main__ import Settings, assemble

OLD, NEW = "o" * 32, "n" * 32
TOLD = {
    "database_url": "postgresql://x",
    "listen": "127.0.0.1:0",
    "users_address": "127.0.0.1:1",
    "order_address": "127.0.0.1:1",
    "stripe_secret_key": "sk_test_tests",
    "stripe_webhook_secret": "whsec_1",
}


def mark(secret: str, **more: str) -> str:
    settings = Settings.load(service_secret=secret, **TOLD, **more)
    return assemble(settings, None).gateway._shop  # type: ignore[arg-type]


def test_it_is_made_of_the_secret_unless_it_is_told() -> None:
    assert mark(OLD) not in (OLD, mark(NEW))
    assert mark(NEW, stripe_mark=mark(OLD)) == mark(OLD)


def test_it_has_to_be_told_before_the_secret_is_replaced() -> None:
    for secrets in (f"{OLD},{NEW}", f"{NEW},{OLD}"):
        with pytest.raises(SettingsError, match="set SHOP_PAYMENT_STRIPE_MARK") as raised:
            mark(secrets)
        assert OLD not in str(raised.value)
    with pytest.raises(SettingsError, match=mark(OLD)):
        mark(f"{OLD},{NEW}")
    assert mark(f"{OLD},{NEW}", stripe_mark=mark(OLD)) == mark(OLD)
