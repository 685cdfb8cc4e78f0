"""Logs: every line tells what it belongs to, and no line tells what nobody may read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

EMAIL, PASSWORD, TOKEN = "canary.mail@example.com", "canary-Passw0rd", "canarytokencanarytoken"
CANARIES = (EMAIL, PASSWORD, TOKEN, "canary")

# A process of its own: logs are set up once, and this is what really comes out of one.
PROCESS = f"""
import asyncio, logging, sys, uuid
import asyncpg, grpc, uvloop
from prometheus_client import generate_latest
from services.kit import logs
from services.kit.errors import invalid_field
from tests import callers
from tests.kit.serving import serving
from tests.kit.things import Thing

EMAIL, PASSWORD, TOKEN = {EMAIL!r}, {PASSWORD!r}, {TOKEN!r}

def duplicate():
    fields = {{"C": "23505", "M": "duplicate", "D": f"Key (email)=({{EMAIL}}) already exists."}}
    return asyncpg.PostgresError.new(fields)

async def fail(request):
    try:
        password = PASSWORD
        raise KeyError(EMAIL)
    except KeyError as error:
        raise RuntimeError(f"cannot sign {{EMAIL}} in with {{PASSWORD}}") from error

async def violate(request):
    raise duplicate()

async def refuse(request):
    raise invalid_field("email", EMAIL + " is no address")

async def forgotten():
    raise ValueError(TOKEN)

async def main():
    asyncio.get_running_loop().set_exception_handler(logs.of_event_loop)
    async with serving() as served:
        metadata = (
            ("authorization", f"Bearer {{TOKEN}}"),
            ("idempotency-key", TOKEN),
            ("x-request-id", "request-7"),
        )
        thing = Thing(id=PASSWORD, text=EMAIL)
        for name, behaviour in [
            ("GetThing", None), ("CreateThing", None), ("SignIn", None),
            ("SignIn", fail), ("SignIn", violate), ("SignIn", refuse),
        ]:
            if behaviour is not None:
                served.things.behaviour[name] = behaviour
            try:
                await getattr(served.stub, name)(thing, metadata=metadata)
            except grpc.aio.AioRpcError:
                pass
        log = logs.logger("tests")
        log.info("odd", kinds=int, id=uuid.UUID(int=7))
        log.info("very odd", half="\\ud800", large=10**30)
        log.info("made", password=PASSWORD, user_email=EMAIL, refresh_token=TOKEN, count=3)
        task = asyncio.create_task(forgotten())
        await asyncio.sleep(0.05)
        del task
        try:
            raise ValueError(PASSWORD)
        except ValueError:
            logging.getLogger("library").exception("a library failed")
            log.exception("we failed")
        logging.getLogger("library").debug(PASSWORD)
        await asyncio.sleep(0.2)
    sys.stderr.write(generate_latest().decode())

logs.configure("things", form=sys.argv[1], level="debug")
uvloop.run(main())
"""


def output(form: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", PROCESS, form],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def written() -> str:
    return output("json")


@pytest.fixture(scope="module")
def entries(written: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.splitlines() if line.startswith("{")]


class TestCanaries:
    @pytest.mark.parametrize("canary", CANARIES)
    def test_none_is_in_json_or_metrics_at_debug(self, written: str, canary: str) -> None:
        assert "shop_rpc_total" in written
        assert [line for line in written.splitlines() if canary in line] == []

    def test_none_is_in_the_readable_form(self) -> None:
        shown = output("pretty")
        assert "we failed" in shown
        assert [line for line in shown.splitlines() if "canary" in line] == []


class TestLines:
    def test_each_is_json_with_service_level_and_time(self, entries: list[dict[str, Any]]) -> None:
        assert len(entries) > 8
        assert all({"event", "service", "level", "timestamp"} <= entry.keys() for entry in entries)
        assert {entry["service"] for entry in entries} == {"things"}

    def test_those_of_a_call_have_its_request_id_and_method(
        self, entries: list[dict[str, Any]]
    ) -> None:
        calls = [entry for entry in entries if entry["event"] == "call"]
        assert len(calls) == 6
        assert {entry["request_id"] for entry in calls} == {"request-7"}
        assert {entry["method"].rpartition("/")[2] for entry in calls} == {
            "GetThing",
            "CreateThing",
            "SignIn",
        }

    def test_a_refusal_tells_code_and_reason(self, entries: list[dict[str, Any]]) -> None:
        told = [(e["code"], e.get("reason"), e["level"]) for e in entries if e["event"] == "call"]
        assert ("UNAUTHENTICATED", "TOKEN_INVALID", "info") in told
        assert ("OK", None, "info") in told
        assert ("INTERNAL", "INTERNAL", "error") in told

    def test_an_exception_tells_its_kinds_and_where_it_was(
        self, entries: list[dict[str, Any]]
    ) -> None:
        found = {e["exception"]: e["trace"] for e in entries if "exception" in e}
        assert found["RuntimeError from KeyError"][-1].endswith(" fail")
        assert "UniqueViolationError" in found
        assert "ValueError" in found

    def test_secret_fields_are_blank_and_others_are_not(
        self, entries: list[dict[str, Any]]
    ) -> None:
        [made] = [entry for entry in entries if entry["event"] == "made"]
        assert made["password"] == made["user_email"] == made["refresh_token"] == "[hidden]"
        assert made["count"] == 3

    def test_what_json_does_not_know_is_told_as_it_looks(
        self, entries: list[dict[str, Any]]
    ) -> None:
        told = {e["event"]: e for e in entries if e["event"] in ("odd", "very odd")}
        assert told["odd"]["kinds"] == "<class 'int'>"
        assert told["odd"]["id"] == "00000000-0000-0000-0000-000000000007"
        assert told["very odd"]["half"] == "\ud800"
        assert told["very odd"]["large"] == 10**30

    def test_libraries_and_the_event_loop_speak_the_same_way(
        self, entries: list[dict[str, Any]]
    ) -> None:
        events = {entry["event"] for entry in entries}
        assert {"a library failed", "Task exception was never retrieved"} <= events
