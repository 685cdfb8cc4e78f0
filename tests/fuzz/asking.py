"""Calls with requests as they are, which need not be any: natively, and as REST."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import grpc
import httpx
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from tests.fuzz.answers import Answer
from tests.refusals import HTTP, documented

SECONDS = 10.0
# A stream that has nothing to tell is silent for longer than this.
SILENCE_SECONDS = 0.5
CODES = {code.value[0]: code for code in grpc.StatusCode}
# The edge's own refusals (verb, body, length of the address) have fitting statuses of HTTP besides.
OF_THE_EDGE = {405, 413, 431}


async def natively(
    channel: grpc.aio.Channel, method: MethodDescriptor, raw: bytes, metadata: Mapping[str, str]
) -> Answer:
    """Make a call over gRPC. Of a stream, the first message is enough."""
    service = method.containing_service
    assert service is not None
    path = f"/{service.full_name}/{method.name}"
    streams = method.server_streaming
    call: Any = (channel.unary_stream if streams else channel.unary_unary)(path)
    seconds = SILENCE_SECONDS if streams else SECONDS
    try:
        pending = call(raw, metadata=tuple(metadata.items()), timeout=seconds)
        answered: bytes | Any = await (pending.read() if streams else pending)
        pending.cancel()
    except grpc.aio.AioRpcError as error:
        if streams and error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            return Answer(grpc.StatusCode.OK)
        return refusal(error)
    if not isinstance(answered, bytes):
        return Answer(grpc.StatusCode.OK)  # a stream that ended at once
    message = GetMessageClass(method.output_type)()
    message.ParseFromString(answered)
    return Answer(grpc.StatusCode.OK, message=message)


def refusal(error: grpc.aio.AioRpcError) -> Answer:
    """The answer that an error is, with whatever is wrong with it."""
    trailers = dict(error.trailing_metadata() or ())
    status, info = status_pb2.Status(), error_details_pb2.ErrorInfo()
    status.ParseFromString(bytes(trailers.pop("grpc-status-details-bin", b"")))
    for detail in status.details:
        detail.Unpack(info)
    text = f"{error.details()} {status} {trailers}"
    wrong = _wrong(error.code(), info.reason, info.domain)
    if status.details and status.code != error.code().value[0]:
        wrong.append("its details have another code")
    return Answer(error.code(), text, reason=info.reason, wrong=wrong)


def _wrong(code: grpc.StatusCode, reason: str, domain: str) -> list[str]:
    says = documented().get(reason)
    if domain != "shop" or says is None:
        return [f"its reason is {domain!r} {reason!r}"]
    if says.code != code:
        return [f"{reason} comes with {code.name}, documented is {says.code.name}"]
    return []


async def as_rest(
    http: httpx.AsyncClient,
    method: MethodDescriptor,
    binding: tuple[str, str, str],
    fields: dict[str, Any],
    headers: Mapping[str, str],
) -> Answer:
    """Make a call by a REST binding, with fields that need not be what it takes."""
    verb, template, body = binding
    rest = dict(fields)
    path = re.sub(r"\{(\w+)\}", lambda found: segment(rest.pop(found[1], "x")), template)
    content, query = None, None
    if body == "*":
        content = json.dumps(rest).encode()
    elif body:
        content = json.dumps(rest.get(body)).encode()
    else:
        query = {
            name: value if isinstance(value, list) else str(value) for name, value in rest.items()
        }
    sent = {name: value for name, value in headers.items() if value.isascii()}
    if content is not None:
        sent["content-type"] = "application/json"
    seconds = SILENCE_SECONDS if method.server_streaming else SECONDS
    request = http.build_request(
        verb.upper(), path, params=query, content=content, headers=sent, timeout=seconds
    )
    try:
        answer = await http.send(request, stream=True)
    except httpx.ReadTimeout:
        silent = grpc.StatusCode.OK if method.server_streaming else grpc.StatusCode.UNAVAILABLE
        return Answer(silent, "no answer came")
    except httpx.RemoteProtocolError as error:
        return Answer(grpc.StatusCode.UNAVAILABLE, f"the connection ended: {error}")
    try:
        if answer.headers.get("content-type") == "text/event-stream":
            return Answer(grpc.StatusCode.OK)
        await answer.aread()
    finally:
        await answer.aclose()
    return _rest_answer(method, answer)


def _rest_answer(method: MethodDescriptor, answer: httpx.Response) -> Answer:
    kind = answer.headers.get("content-type")
    try:
        told = answer.json()
    except ValueError:
        told = None
    if kind != "application/json" or not isinstance(told, dict):
        wrong = [f"{answer.status_code} is {kind}, no JSON object"]
        return Answer(grpc.StatusCode.UNKNOWN, answer.text, wrong=wrong)
    if answer.status_code < 400:
        message = GetMessageClass(method.output_type)()
        json_format.ParseDict(told, message, ignore_unknown_fields=True)
        return Answer(grpc.StatusCode.OK, message=message)
    code = CODES.get(told.get("code", 2), grpc.StatusCode.UNKNOWN)
    details = told.get("details") or [{}]
    reason, domain = details[0].get("reason", ""), details[0].get("domain", "")
    wrong = _wrong(code, reason, domain)
    if answer.status_code not in OF_THE_EDGE and answer.status_code != HTTP.get(code):
        wrong.append(f"its status is {answer.status_code} with {code.name}")
    return Answer(code, answer.text, reason=reason, wrong=wrong)


def as_json(method: MethodDescriptor, raw: bytes) -> dict[str, Any]:
    """A request as REST takes it; nothing of one that cannot be read."""
    message = GetMessageClass(method.input_type)()
    try:
        message.ParseFromString(raw)
        found: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    except (DecodeError, json_format.SerializeToJsonError, TypeError):  # an Any of no type there is
        return {}
    return found


def segment(value: Any) -> str:
    """A value as part of a path."""
    return quote(str(value), safe="") or "x"


def show(method: MethodDescriptor, raw: bytes) -> str:
    """A request as people read it, to be put into a test of its own."""
    message = GetMessageClass(method.input_type)()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        return f"{method.full_name} {raw!r}"
    return f"{method.full_name} {{ {message} }}"
