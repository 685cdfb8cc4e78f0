"""What a refused REST call looks like: a `google.rpc.Status` that keeps to reason.proto."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

import grpc
import httpx

from tests.edge.refused import assert_refused
from tests.fuzz.answers import gives_away
from tools.contract import DESCRIPTORS, load

REASON = "shop.errors.v1.Reason.REASON_"
# google/rpc/code.proto says which HTTP status goes with a code.
HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


@dataclass(frozen=True)
class Documented:
    """What reason.proto says about a reason."""

    code: grpc.StatusCode
    metadata: frozenset[str]
    retry: bool


@functools.cache
def documented() -> dict[str, Documented]:
    """Every reason, as its comment has it."""
    comments = load(DESCRIPTORS.read_bytes()).comments
    return {
        name.removeprefix(REASON): _read(comment or "")
        for name, comment in comments.items()
        if name.startswith(REASON) and not name.endswith("UNSPECIFIED")
    }


def _read(comment: str) -> Documented:
    status = re.match(r"Status: ([A-Z_]+)\.", comment)
    listed = re.search(r"Metadata: (.*?)\.(.*?)\n Client:", comment, re.DOTALL)
    assert status
    assert listed
    keys = re.sub(r"\(.*?\)", "", listed[1], flags=re.DOTALL)
    return Documented(
        grpc.StatusCode[status[1]],
        frozenset(re.findall(r"[a-z_]+", keys)) - {"none"},
        "RetryInfo" in listed[2],
    )


@dataclass(frozen=True)
class Refused:
    """What a refusal said."""

    message: str
    metadata: dict[str, str]
    fields: dict[str, str]


def refused(answer: httpx.Response, reason: str, status: int = 0) -> Refused:
    """Check that a call was refused for this reason, as documented; what was said.

    `status` is the HTTP status where Envoy has a more fitting one than the code's own.
    """
    says = documented()[reason]
    body = assert_refused(answer, status or HTTP[says.code], says.code.value[0], reason)
    assert not gives_away(answer.text), answer.text
    details: dict[str, dict[str, Any]] = {
        each["@type"].rpartition(".")[2]: each for each in body["details"]
    }
    metadata = details["ErrorInfo"].get("metadata", {})
    assert metadata.keys() <= says.metadata, (metadata, says)
    if says.retry:
        assert re.fullmatch(r"\d+(\.\d+)?s", details["RetryInfo"]["retry_delay"]), body
    assert ("RetryInfo" in details) == says.retry, body
    violations = details.get("BadRequest", {}).get("field_violations", [])
    return Refused(
        body["message"], metadata, {each["field"]: each["description"] for each in violations}
    )
