"""What schemathesis is told about this API: checks of our own, and a key of its own for each call.

Two of its checks know only HTTP statuses and the document. Here they are done by what they mean: a
request is judged by the contract that the edge reads it by, and a refusal by its reason.
"""

from __future__ import annotations

import functools
import importlib
import json
import re
import uuid
from pathlib import Path
from typing import Any

import protovalidate
import schemathesis
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.generation import GenerationMode

from tests.fuzz.answers import gives_away

# The reasons for requests that keep no rules.
ILL_FORMED = {"VALIDATION_FAILED", "MALFORMED_REQUEST"}
# Rules that no schema can say: which currencies and countries there are, what decimals a currency
# has, how strong a password is, that header and body have one etag, what a mask may not clear, what
# an order by relevance needs.
UNSAID = re.compile(
    r"(?s:(.*\.)?(currency_code|region_code|token|password|new_password|etag): .*"
    r"|(.*\.)?nanos: [A-Z]{3} has \d decimal places"
    r"|\w+: cannot be cleared.*"
    r"|: order_by relevance needs q)"
)
# What any address may answer besides.
ANYWHERE = {"ROUTE_NOT_FOUND", "METHOD_NOT_ALLOWED", "MALFORMED_REQUEST", "BODY_TOO_LARGE"}


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Make a good key a new one: calls that share the document's would be refused for it.

    An id that was taken from an answer may be empty, where there is none (a cart of nobody's): the
    address would be another one, so it becomes nobody's.
    """
    for name, value in (case.path_parameters or {}).items():
        if value == "":
            case.path_parameters[name] = str(uuid.uuid4())
    headers = case.headers
    for name in list(headers):
        good = re.fullmatch(r"[\x21-\x7e]{1,255}", str(headers[name]))
        if name.lower() == "idempotency-key" and good:
            headers[name] = str(uuid.uuid4())


@schemathesis.check
def shows_nothing_inside(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """No answer tells of programs and tables; each refusal has a reason that the document names."""
    shown = gives_away(response.text)
    assert not shown, f"It shows {shown!r}"
    if response.status_code < 400:
        return
    reason, _ = _refusal(response)
    stated = set(case.operation.definition.raw["x-reasons"]) | ANYWHERE
    assert reason in stated, f"The document does not say that it answers {reason!r}"


@schemathesis.check
def takes_what_the_document_allows(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """A request that keeps to the document is not called ill-formed."""
    if _mode(case) != GenerationMode.POSITIVE or response.status_code != 400:
        return
    reason, complaints = _refusal(response)
    said = [each for each in complaints if not UNSAID.fullmatch(each)]
    well_formed = reason not in ILL_FORMED or (complaints and not said)
    assert well_formed, "A valid request is called ill-formed"


@schemathesis.check
def does_only_what_the_contract_allows(
    ctx: CheckContext, response: Response, case: Case[Any]
) -> None:
    """A request that breaks the document's rules was done only if the contract lets it be.

    JSON as Protobuf reads it has more than one form: null for what is absent, numbers as strings.
    """
    if _mode(case) != GenerationMode.NEGATIVE or response.status_code >= 300:
        return
    wrong = _wrong(case)
    assert not wrong, f"Done in spite of {wrong}"


def _mode(case: Case[Any]) -> GenerationMode | None:
    return case.meta.generation.mode if case.meta else None


def _refusal(response: Response) -> tuple[str, list[str]]:
    """Why a call was refused, and the fields at fault, each with what is wrong."""
    details = response.json().get("details", [])
    reason = next((each["reason"] for each in details if "reason" in each), "")
    violations = [each for detail in details for each in detail.get("field_violations", [])]
    return reason, [f"{each['field']}: {each['description']}" for each in violations]


def _wrong(case: Case[Any]) -> str:
    """What the contract has against a request."""
    message = _empty(case.operation.definition.raw["x-rpc"])
    body = case.body if isinstance(case.body, dict) else {}
    fields = {**(case.query or {}), **body, **(case.path_parameters or {})}
    try:
        json_format.ParseDict(_plain(fields), message, ignore_unknown_fields=True)
    except json_format.ParseError:
        return (
            ""  # the edge's reader takes more than this one: what it made of it is not known here
        )
    violations = [
        f"{violation.proto.field}: {violation.proto.message}"
        for violation in protovalidate.collect_violations(message)
    ]
    return "; ".join(violations)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


@functools.cache
def _contract() -> descriptor_pool.DescriptorPool:
    generated = Path(__file__).resolve().parents[2] / "generated"
    for path in sorted((generated / "shop").rglob("*_pb2.py")):
        parts = path.relative_to(generated).with_suffix("").parts
        importlib.import_module(".".join(parts))
    return descriptor_pool.Default()


def _empty(rpc: str) -> Message:
    message: Message = GetMessageClass(_contract().FindMethodByName(rpc).input_type)()
    return message
