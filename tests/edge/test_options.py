"""What an operator may say about the edge, and how it is understood."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.edge_options import LENIENT, EdgeOptions, Rate, Tls
from cli.programs import StartError


def test_what_is_not_said_stays_as_it_is() -> None:
    assert EdgeOptions.of({}) == EdgeOptions()
    assert EdgeOptions.of({"SHOP_RATE_LIMIT": "", "SHOP_ISSUER": "x"}, LENIENT) == LENIENT


def test_everything_can_be_said(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.touch()
    key.touch()
    chosen = EdgeOptions.of(
        {
            "SHOP_CORS_ORIGINS": "https://Shop.example/, http://localhost:*",
            "SHOP_RATE_LIMIT": "7/s",
            "SHOP_SIGN_IN_RATE_LIMIT": "500/h",
            "SHOP_TRUSTED_PROXIES": "2",
            "SHOP_ACCESS_LOG": "errors",
            "SHOP_COMPRESSION": "off",
            "SHOP_TLS_CERTIFICATE": str(certificate),
            "SHOP_TLS_KEY": str(key),
        }
    )
    assert chosen == EdgeOptions(
        cors_origins=("https://shop.example", "http://localhost:*"),
        rate=Rate(7, 1),
        strict_rate=Rate(500, 3600),
        trusted_proxies=2,
        access_log="errors",
        compression=False,
        tls=Tls(certificate, key),
    )


def test_limits_and_origins_can_be_switched_off() -> None:
    names = ("SHOP_CORS_ORIGINS", "SHOP_RATE_LIMIT", "SHOP_SIGN_IN_RATE_LIMIT")
    chosen = EdgeOptions.of(dict.fromkeys(names, "off"))
    assert (chosen.cors_origins, chosen.rate, chosen.strict_rate) == ((), None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHOP_RATE_LIMIT", "100"),
        ("SHOP_RATE_LIMIT", "0/s"),
        ("SHOP_RATE_LIMIT", "-1/s"),
        ("SHOP_RATE_LIMIT", "1/day"),
        ("SHOP_SIGN_IN_RATE_LIMIT", "many"),
        ("SHOP_CORS_ORIGINS", "shop.example"),
        ("SHOP_CORS_ORIGINS", "https://shop.example/path"),
        ("SHOP_CORS_ORIGINS", "https://shop.example,,https://other.example"),
        ("SHOP_TRUSTED_PROXIES", "all"),
        ("SHOP_ACCESS_LOG", "some"),
        ("SHOP_COMPRESSION", "gzip"),
    ],
)
def test_what_cannot_be_understood_is_named(name: str, value: str) -> None:
    with pytest.raises(StartError, match=f"^{name}={re.escape(value)}: "):
        EdgeOptions.of({name: value})


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    there = tmp_path / "there.pem"
    there.touch()
    with pytest.raises(StartError, match="set together"):
        EdgeOptions.of({"SHOP_TLS_CERTIFICATE": str(there)})
    with pytest.raises(StartError, match=r"missing\.pem.*is no file"):
        EdgeOptions.of(
            {"SHOP_TLS_CERTIFICATE": str(there), "SHOP_TLS_KEY": str(tmp_path / "missing.pem")}
        )


@pytest.mark.parametrize(
    ("rate", "seconds"), [(Rate(100, 1), 1), (Rate(30, 60), 2), (Rate(7, 60), 9), (Rate(1, 60), 60)]
)
def test_the_wait_is_until_one_more_is_free(rate: Rate, seconds: int) -> None:
    assert rate.wait == seconds


def test_on_a_developers_machine_the_limits_are_wide() -> None:
    assert LENIENT.rate is not None
    assert LENIENT.rate.calls >= 1000
    assert LENIENT.strict_rate is not None
    assert LENIENT.strict_rate.calls / LENIENT.strict_rate.seconds >= 10
