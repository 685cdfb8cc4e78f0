"""Settings: from which variable each comes, and what is said when one is missing or wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from services.kit.settings import ServiceSettings, SettingsError, host_and_port, setting

GOOD = {
    "SHOP_CATALOG_DATABASE_URL": "postgresql://shop_catalog:secret@localhost/shop",
    "SHOP_CATALOG_LISTEN": "127.0.0.1:8002",
    "SHOP_SERVICE_SECRET": "s" * 32,
}


@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    service: Literal["catalog"] = "catalog"
    token: str = setting("", description="something of its own", secret=True)


@pytest.fixture(autouse=True)
def good_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


class TestSources:
    def test_the_services_own_variable(self) -> None:
        assert Settings.load().listen == "127.0.0.1:8002"

    def test_the_shared_variable(self) -> None:
        assert Settings.load().service_secret == "s" * 32

    def test_its_own_wins_over_the_shared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHOP_LOG_LEVEL", "error")
        assert Settings.load().log_level == "error"
        monkeypatch.setenv("SHOP_CATALOG_LOG_LEVEL", "debug")
        assert Settings.load().log_level == "debug"

    def test_a_variable_of_another_service_is_not_read(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SHOP_USERS_LOG_LEVEL", "error")
        assert Settings.load().log_level == "info"

    def test_a_file_holds_the_value(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("t" * 40 + "\n")
        monkeypatch.delenv("SHOP_SERVICE_SECRET")
        monkeypatch.setenv("SHOP_SERVICE_SECRET_FILE", str(tmp_path / "secret"))
        assert Settings.load().service_secret == "t" * 40

    def test_a_variable_that_was_made_from_a_file_is_read_as_the_file_is(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SHOP_DIRECT_DATABASE_URL", "postgresql://a:b@c/shop\n")
        assert Settings.load().direct_database_url == "postgresql://a:b@c/shop"

    def test_its_own_file_wins_over_the_shared_value(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "secret").write_text("t" * 40)
        monkeypatch.setenv("SHOP_CATALOG_SERVICE_SECRET_FILE", str(tmp_path / "secret"))
        assert Settings.load().service_secret == "t" * 40

    def test_what_is_given_wins(self) -> None:
        assert Settings.load(listen="127.0.0.1:0").listen == "127.0.0.1:0"

    def test_secrets_do_not_show(self) -> None:
        shown = repr(Settings.load(token="canary"))
        assert "canary" not in shown
        assert "s" * 32 not in shown
        assert "shop_catalog:secret" not in shown


class TestMistakes:
    def test_what_is_missing_is_named_with_its_variables(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SHOP_CATALOG_LISTEN")
        with pytest.raises(SettingsError) as raised:
            Settings.load()
        assert str(raised.value) == (
            "set SHOP_CATALOG_LISTEN (or SHOP_LISTEN, or SHOP_CATALOG_LISTEN_FILE): it is required"
        )

    def test_all_mistakes_are_told_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHOP_LOG_FORMAT", "xml")
        monkeypatch.setenv("SHOP_DATABASE_CONNECTIONS", "many")
        with pytest.raises(SettingsError) as raised:
            Settings.load()
        lines = str(raised.value).splitlines()
        assert len(lines) == 2
        assert all(line.startswith("set SHOP_CATALOG_") for line in lines)

    def test_a_wrong_secret_is_not_repeated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHOP_SERVICE_SECRET", "canary")
        with pytest.raises(SettingsError) as raised:
            Settings.load()
        assert "SHOP_CATALOG_SERVICE_SECRET" in str(raised.value)
        assert "at least 32" in str(raised.value)
        assert "canary" not in str(raised.value)

    def test_while_a_secret_is_replaced_there_are_several(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SHOP_SERVICE_SECRET", f"{'n' * 32}, {'o' * 32}")
        assert Settings.load().service_secrets() == ["n" * 32, "o" * 32]
        monkeypatch.setenv("SHOP_SERVICE_SECRET", f"{'n' * 32},canary")
        with pytest.raises(SettingsError, match="each secret has to have at least 32") as raised:
            Settings.load()
        assert "canary" not in str(raised.value)

    def test_a_file_that_is_not_there_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHOP_CATALOG_TOKEN_FILE", "/nowhere/token")
        with pytest.raises(SettingsError, match="TOKEN_FILE names /nowhere/token: No such"):
            Settings.load()

    def test_a_file_that_is_not_text_is_named(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "token").write_bytes(b"\xff\xfe")
        monkeypatch.setenv("SHOP_CATALOG_TOKEN_FILE", str(tmp_path / "token"))
        with pytest.raises(SettingsError, match=r"TOKEN_FILE names .*, which is not a text"):
            Settings.load()


class TestHostAndPort:
    @pytest.mark.parametrize(
        ("address", "parts"),
        [
            ("127.0.0.1:8001", ("127.0.0.1", 8001)),
            ("[::1]:0", ("::1", 0)),
            ("users.shop:65535", ("users.shop", 65535)),
        ],
    )
    def test_both_parts(self, address: str, parts: tuple[str, int]) -> None:
        assert host_and_port(address) == parts

    @pytest.mark.parametrize("address", ["", "8001", "host", "host:", "host:http", "host:65536"])
    def test_what_is_no_address(self, address: str) -> None:
        with pytest.raises(SettingsError, match="is not host:port"):
            host_and_port(address)
