"""A service process: started by settings, ended by a signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

PROCESS = """
from dataclasses import dataclass
from typing import Literal
from services.kit import process
from services.kit.server import Server
from services.kit.settings import ServiceSettings
from tests.kit.schema import metadata
from tests.kit.serving import authenticator, same

@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    service: Literal["catalog"] = "catalog"

def build(settings, database):
    return Server.of(settings, authenticator(check_session=same), ready=database.ready)

process.run(Settings, metadata, build)
"""
PATIENCE_SECONDS = 60.0
GOOD = {
    "SHOP_DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:9/nothing",
    "SHOP_LISTEN": "127.0.0.1:0",
    "SHOP_SERVICE_SECRET": "s" * 32,
}


def started(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | GOOD | environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def events(process: subprocess.Popen[str]) -> Iterator[str]:
    """What the lines of its log tell of, until it ends."""
    assert process.stderr is not None
    return (json.loads(line)["event"] for line in process.stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(number: signal.Signals) -> None:
    with started() as process:
        assert "serving" in events(process)
        process.send_signal(number)
        assert "draining" in events(process)
        assert process.wait(PATIENCE_SECONDS) == 0


def test_wrong_settings_end_it_with_a_text_for_people() -> None:
    with started(SHOP_LOG_LEVEL="loud") as process:
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert said.startswith("set SHOP_CATALOG_LOG_LEVEL (or SHOP_LOG_LEVEL, or")
    assert "Traceback" not in said


def test_an_address_that_is_none_ends_it_with_a_text_for_people() -> None:
    with started(SHOP_LISTEN="127.0.0.1:99999") as process:
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert said == "'127.0.0.1:99999' is not host:port\n"
    assert "Traceback" not in said


def test_a_metrics_address_that_is_taken_ends_it_with_a_text_for_people() -> None:
    with started(SHOP_METRICS_LISTEN="192.0.2.1:1") as process:
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert said.strip().startswith("Cannot listen on 192.0.2.1:1")
