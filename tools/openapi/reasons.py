"""Which reasons a method may answer, and the responses they come in."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from google.rpc import code_pb2

from shop.options.v1 import access_pb2
from tools.contract import Contract, Method
from tools.openapi.examples import METADATA
from tools.openapi.words import prose

Schema = dict[str, Any]

_REASON = "shop.errors.v1.Reason.REASON_"
# google/rpc/code.proto says which HTTP status goes with a code.
_HTTP = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
# Texts of these services are not a customer's, and a SKU may well look like a card number.
_GOODS = "shop.catalog."
_OTHER_HTTP = {"BODY_TOO_LARGE": 413}
_WITH_FIELDS = {"VALIDATION_FAILED", "UNKNOWN_FIELD_IN_MASK", "PASSWORD_TOO_COMMON", "EMAIL_TAKEN"}

# What any call may meet, and the names of the responses that are the same for most methods.
_TROUBLE = (
    "RATE_LIMITED",
    "OVERLOADED",
    "INTERNAL",
    "DEPENDENCY_UNAVAILABLE",
    "INTERRUPTED",
    "DEADLINE_EXCEEDED",
)
_SHARED = {
    "NotSignedIn": ("TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED"),
    "BadToken": ("TOKEN_INVALID", "TOKEN_EXPIRED"),
    "SessionNeeded": ("SESSION_ENDED", "TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED"),
    "RoleNeeded": ("ROLE_REQUIRED",),
    "BodyTooLarge": ("BODY_TOO_LARGE",),
    "TooManyCalls": ("RATE_LIMITED", "OVERLOADED"),
    "Defect": ("INTERNAL",),
    "Unavailable": ("DEPENDENCY_UNAVAILABLE", "INTERRUPTED"),
    "TooSlow": ("DEADLINE_EXCEEDED",),
}
_HEADERS: dict[int, tuple[str, str]] = {
    401: ("www-authenticate", "How to get in (RFC 6750)."),
    429: ("retry-after", "Seconds to wait before trying again."),
    503: ("retry-after", "Seconds to wait before trying again."),
}


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason as its comment in reason.proto describes it."""

    name: str
    code: str
    meaning: str
    metadata: tuple[str, ...]
    client: str
    retry: bool

    @property
    def http(self) -> int:
        """Status of the HTTP answer."""
        return _OTHER_HTTP.get(self.name) or _HTTP[self.code]

    @property
    def advice(self) -> str:
        """What it means and what a client should do."""
        return f"{self.meaning} *Client: {self.client}*"

    def example(self) -> Schema:
        """An answer with this reason."""
        info: Schema = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": self.name,
            "domain": "shop",
            "metadata": {key: METADATA[key] for key in self.metadata},
        }
        details = [info]
        if self.name in _WITH_FIELDS:
            field = {"field": "email", "description": "must be a valid email address"}
            kind = "type.googleapis.com/google.rpc.BadRequest"
            details.append({"@type": kind, "field_violations": [field]})
        if self.retry:
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            details.append({"@type": kind, "retry_delay": "1s"})
        code = code_pb2.Code.Value(self.code)
        value = {"code": code, "message": self.meaning, "details": details}
        return {"summary": self.name, "value": value}


def known(contract: Contract) -> dict[str, Reason]:
    """Every reason of the contract, by name."""
    return {
        name.removeprefix(_REASON): _read(name.removeprefix(_REASON), comment or "")
        for name, comment in contract.comments.items()
        if name.startswith(_REASON) and not name.endswith("UNSPECIFIED")
    }


def _read(name: str, comment: str) -> Reason:
    text = prose(comment)
    found = re.fullmatch(r"Status: ([A-Z_]+)\. (.*) Metadata: (.*?)\. (.*?)Client: (.*)", text)
    if found is None:
        raise SystemExit(f"the comment of REASON_{name} has not the parts that it should have")
    code, meaning, metadata, more, client = found.groups()
    keys = re.findall(r"[a-z_]+", re.sub(r"\(.*?\)", "", metadata))
    return Reason(
        name, code, meaning, tuple(k for k in keys if k != "none"), client, "RetryInfo" in more
    )


def of(contract: Contract, method: Method) -> dict[str, Answered]:
    """Reasons that a method may answer, those first that it names itself."""
    _, _, text = prose(contract.comments[method.name] or "").partition("Reasons: ")
    stated = re.findall(r"\b([A-Z][A-Z_]+)\b(?: \((.*?)\))?", text)
    found = {name: Answered(True, note) for name, note in stated}
    return found | {name: Answered(False) for name in _general(method) if name not in found}


def _general(method: Method) -> Iterator[str]:
    """What any method of this access and kind may answer."""
    bindings = list(method.bindings())
    names = ["VALIDATION_FAILED", "MALFORMED_REQUEST"]
    if method.access != access_pb2.ACCESS_PUBLIC:
        names.append("TOKEN_MISSING")
    if not method.ignores_credentials:
        names += ["TOKEN_INVALID", "TOKEN_EXPIRED"]
    if method.checks_session:
        names.append("SESSION_ENDED")
    if method.access in (access_pb2.ACCESS_STAFF, access_pb2.ACCESS_ADMIN):
        names.append("ROLE_REQUIRED")
    if not is_read(method):
        names += [
            "IDEMPOTENCY_KEY_INVALID",
            "IDEMPOTENCY_KEY_REUSED",
            "IDEMPOTENCY_KEY_IN_USE",
            "TRANSACTION_CONFLICT",
        ]
        if not method.service.startswith(_GOODS):
            names.append("CARD_NUMBER_REFUSED")
    if any(body for _, _, body in bindings):
        names.append("BODY_TOO_LARGE")
    yield from (*names, *_TROUBLE)


def is_read(method: Method) -> bool:
    """Whether it changes nothing: HTTP says so of GET."""
    return all(verb == "get" for verb, _, _ in method.bindings())


@dataclass(frozen=True, slots=True)
class Answered:
    """That a method may answer a reason; `own` when it says so itself, maybe with a note."""

    own: bool
    note: str = ""


class Responses:
    """Error responses; those that many methods share, and all examples, become components."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._known = known(contract)
        self._used: set[str] = set()
        self.components: dict[str, Schema] = {}

    @property
    def examples(self) -> dict[str, Schema]:
        """An example of every reason that some method answers."""
        return {n: reason.example() for n, reason in self._known.items() if n in self._used}

    def of(self, method: Method) -> dict[str, Schema]:
        """The error responses of a method by HTTP status."""
        by_status: dict[int, dict[str, Answered]] = defaultdict(dict)
        for name, answered in of(self._contract, method).items():
            by_status[self._known[name].http][name] = answered
        if "ETAG_MISMATCH" in by_status.get(409, {}):
            by_status[412]["ETAG_MISMATCH"] = Answered(True, "`If-Match` was sent; 409 without")
        return {str(code): self._response(code, by_status[code]) for code in sorted(by_status)}

    def _response(self, status: int, reasons: Mapping[str, Answered]) -> Schema:
        if any(answered.own for answered in reasons.values()):
            return self._inline(status, reasons)
        for component, names in _SHARED.items():
            if set(names) == set(reasons):
                if component not in self.components:
                    self.components[component] = self._inline(status, reasons)
                return {"$ref": f"#/components/responses/{component}"}
        return self._inline(status, reasons)

    def _inline(self, status: int, reasons: Mapping[str, Answered]) -> Schema:
        """Own reasons in full and with examples; the others are met everywhere."""
        own = [name for name, answered in reasons.items() if answered.own]
        shown = own or list(reasons)
        self._used.update(shown)
        lines = [self._line(name, answered) for name, answered in reasons.items()]
        description = "\n".join([f"{HTTPStatus(status).phrase}.", "", *lines])
        response: Schema = {"description": description}
        if status in _HEADERS:
            name, said = _HEADERS[status]
            response["headers"] = {name: {"description": said, "schema": {"type": "string"}}}
        response["content"] = {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Error"},
                "examples": {name: {"$ref": f"#/components/examples/{name}"} for name in shown},
            }
        }
        return response

    def _line(self, name: str, answered: Answered) -> str:
        reason = self._known[name]
        about = f" ({answered.note})" if answered.note else ""
        return f"- `{name}`{about}: {reason.advice if answered.own else reason.meaning}"
