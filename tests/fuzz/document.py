"""The whole of generated/openapi.yaml, tried by schemathesis with the checks of document_checks.

Two customers call, who must not see each other's things, and an administrator where a role is
needed. What ends accounts and sessions is called by somebody else, in a run of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.shop import command
from tests.visitors import Person, Shop
from tools.contract import ROOT

PROGRAM = Path(sys.executable).with_name("schemathesis")
DOCUMENT = ROOT / "generated" / "openapi.yaml"
ENDS = ("DeleteUser", "SetUserDisabled", "SetUserRole", "ChangePassword", "Logout")
# GET, POST and so on, which Envoy knows; it cannot read QUERY, and hangs up on CONNECT.
VERBS = ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE"]
SECONDS = 600.0
# The first two of its phases hardly depend on the seed.
RANDOM = "fuzzing,stateful"
ALL = f"examples,coverage,{RANDOM}"

# Schemathesis reads a stream to its end, and does not wait for longer than the request may take.
TOLD = {"SHOP_WATCH_SECONDS": "1"}

CONFIG = f"""
hooks = "tests.fuzz.document_checks"
request-timeout = 10.0
suppress-health-check = ["all"]
warnings = false
cache.enabled = false

# All of its checks, but for two that are done by what they mean: see tests/fuzz/document_checks.py.
[checks]
enabled = true
positive_data_acceptance.enabled = false
negative_data_rejection.enabled = false

[phases.coverage]
unexpected-methods = {json.dumps(VERBS)}

[[operations]]
# It holds each event of a stream against the schema that OpenAPI 3.1 has for the whole of it.
include-operation-id = "WatchOrder"
checks.response_schema_conformance.enabled = false

[[operations]]
# Whoever signs up is somebody else than who is signed in: what belongs to them is not to be found.
include-path-regex = '^/api/users/\\{{id\\}}/([a-z]+/)?$'
checks.ensure_resource_availability.enabled = false
"""


@dataclass(frozen=True)
class Tried:
    """How a run ended."""

    failed: bool
    text: str
    """What schemathesis printed."""

    @property
    def summary(self) -> str:
        """What was tried, and what came of it."""
        found = re.search(r"^Test cases:\n +(.*)$", self.text, re.MULTILINE)
        return found[1] if found else self.text


async def attempt(
    shop: Shop, folder: Path, seed: int, *, phases: str, seconds: int, examples: int = 5
) -> list[Tried]:
    """Try all operations of a running shop, by at most so many examples and for so long."""
    ada, eve, admin = [await shop.sign_up(role) for role in ("CUSTOMER", "CUSTOMER", "ADMIN")]
    gone = await shop.sign_up("CUSTOMER")
    options = ["--phases", phases, "--seed", str(seed), "--max-examples", str(examples)]
    options += ["--max-time", str(seconds)]
    ends = [f"--{{}}-operation-id={name}" for name in ENDS]
    return [
        await _run(
            shop, folder / "all", {"ada": ada, "eve": eve, "admin": admin}, ["ada", "eve"],
            [*options, *(each.format("exclude") for each in ends)],
        ),
        await _run(
            shop, folder / "ends", {"gone": gone, "admin": admin}, [],
            [*options, *(each.format("include") for each in ends)],
        ),
    ]  # fmt: skip


async def _run(
    shop: Shop, folder: Path, people: dict[str, Person], peers: list[str], options: list[str]
) -> Tried:
    folder.mkdir(parents=True)
    signed = [
        {
            "name": name,
            "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {person.token}"}],
        }
        for name, person in people.items()
    ]
    (folder / "people.json").write_text(json.dumps({"auth": signed}))
    auth = {"path": str(folder / "people.json")} | ({"peers": peers} if peers else {})
    lines = [f"{key} = {json.dumps(value)}" for key, value in auth.items()]
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG + "\n[auth.wfc]\n" + "\n".join(lines) + "\n")
    ended: subprocess.CompletedProcess[str] = await command(
        PROGRAM, "--config-file", config, "run", DOCUMENT, "--url", shop.ready.edge,
        "--no-color", *options,
        seconds=SECONDS,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}", "COLUMNS": "100"},
    )  # fmt: skip
    return Tried(ended.returncode != 0, ended.stdout + ended.stderr)
