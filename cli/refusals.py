"""What Envoy answers by itself, in the words of the API.

Envoy refuses calls that never reach a service: no such method, a body too large, no valid token, a
service that is down. Each refusal is recognized by what Envoy notes about its own answer (the
response code details) and becomes a `google.rpc.Status` with a reason of
`shop/errors/v1/reason.proto`: as JSON or, for a call of gRPC or gRPC-Web, as its trailers.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from google.protobuf import any_pb2, json_format
from google.rpc import code_pb2, error_details_pb2, status_pb2

from cli.edge_options import Rate
from cli.rpcs import Rpc
from shop.errors.v1 import reason_pb2

# Set by the transcoder, stripped from clients: a gRPC call that has it began as a REST call.
_BEGAN_AS_REST = "'x-envoy-original-path' in request.headers"
_IS_GRPC = "request.headers['content-type'].matches('^application/grpc([+;].*)?$')"
_NATIVE = f"('content-type' in request.headers && {_IS_GRPC} && !({_BEGAN_AS_REST}))"
# The edge's own note of what the content type was before grpc_web changed it.
_CAME_AS = "request.headers['x-shop-came-as']"
_WEB = f"('x-shop-came-as' in request.headers && {_CAME_AS}.startsWith('application/grpc-web'))"
# Placeholder of Envoy's formatter. The transcoder's text names what it could not read in the
# client's own input; no other text of Envoy's leaves the edge.
_TRANSCODER_TEXT = "%LOCAL_REPLY_BODY%"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of Envoy's own.

    `when` is a CEL expression over the answer it would give; where `flags` are given, the answer is
    recognized by these flags of Envoy's instead. `calls` says to which calls it applies. `paths` is
    a regular expression for those it is about; it is not part of `when` because Envoy bounds
    regular expressions in CEL. `http` is the status of a REST answer, 0 for Envoy's; `retry` is how
    many seconds a client should wait, 0 where waiting does not help.
    """

    when: str
    http: int
    code: int
    reason: reason_pb2.Reason.ValueType
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    retry: int = 0
    calls: Literal["any", "rest", "native"] = "any"
    paths: str = ""
    flags: tuple[str, ...] = ()

    @property
    def native(self) -> str:
        """CEL expression for when it is the answer to a native gRPC call; empty for never."""
        return "" if self.calls == "rest" else f"{_NATIVE} && {self.when}"

    @property
    def web(self) -> str:
        """CEL expression for when it is the answer to a gRPC-Web call, which is looked at first;
        empty for never.
        """
        rest = self.calls == "rest" or self.message == _TRANSCODER_TEXT
        return "" if rest else f"{_WEB} && {self.when}"

    @property
    def rest(self) -> str:
        """CEL expression for when it is the answer to a REST call, or to what is no call at all;
        empty for never. Where native calls have an answer of their own, that is looked at first.
        """
        if self.calls == "any":
            return self.when
        return "" if self.calls == "native" else f"!{_NATIVE} && {self.when}"

    @property
    def status(self) -> status_pb2.Status:
        """The refusal as the API words it."""
        name = reason_pb2.Reason.Name(self.reason).removeprefix("REASON_")
        info = error_details_pb2.ErrorInfo(reason=name, domain="shop")
        status = status_pb2.Status(code=self.code, message=self.message, details=[_packed(info)])
        if self.retry:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromTimedelta(timedelta(seconds=self.retry))
            status.details.append(_packed(retry))
        return status

    @property
    def json(self) -> dict[str, Any]:
        """Body of the answer to a REST call."""
        return json_format.MessageToDict(self.status, preserving_proto_field_name=True)

    @property
    def rest_headers(self) -> dict[str, str]:
        """Headers of the answer to a REST call."""
        wait = {"retry-after": str(self.retry)} if self.retry else {}
        return {**self.headers, **wait}

    @property
    def native_headers(self) -> dict[str, str]:
        """What the answer to a native gRPC call has besides the message."""
        # gRPC leaves out the padding of base64.
        details = base64.b64encode(self.status.SerializeToString()).decode().rstrip("=")
        return {
            **self.rest_headers,
            "grpc-status": str(self.code),
            "grpc-status-details-bin": details,
        }

    @property
    def web_headers(self) -> dict[str, str]:
        """The whole answer to a gRPC-Web call: for one without a body, trailers are headers."""
        return {
            **self.native_headers,
            "content-type": "application/grpc",  # grpc_web makes it what the client asked for
            "grpc-message": self.message,
        }


def refusals(rpcs: Sequence[Rpc], strict_rate: Rate | None = None) -> list[Refusal]:
    """All of them for an edge that serves `rpcs`; the first that applies is the answer.

    Looking at one costs some 10 µs, so what is refused because there is too much comes first.
    """
    limits = _too_often(rpcs, strict_rate)
    return [_OVERLOADED, *limits, *_TOKEN, *_wrong_verbs(rpcs), *_REQUEST, *_SERVER]


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _challenge(error: str = "", description: str = "") -> dict[str, str]:
    """What a 401 has to say about how to get in (RFC 6750, section 3)."""
    text = 'Bearer realm="shop"'
    if error:
        text += f', error="{error}", error_description="{description}"'
    return {"www-authenticate": text}


# By flags, as it is looked at first and has to be quick: when much of it is given, there is more to
# do than the processor can. UO is a circuit breaker, OM the overload manager.
_OVERLOADED = Refusal(
    when="response.code == 503",
    flags=("UO", "OM"),
    http=429,
    code=code_pb2.RESOURCE_EXHAUSTED,
    reason=reason_pb2.REASON_OVERLOADED,
    message="The shop is busy: try again shortly.",
    retry=1,
)

_JWT_FILTER = "response.code_details.startsWith('jwt_authn_access_denied')"

_TOKEN = (
    Refusal(
        when="response.code_details.contains('Jwt_is_expired')",
        http=401,
        code=code_pb2.UNAUTHENTICATED,
        reason=reason_pb2.REASON_TOKEN_EXPIRED,
        message="The access token has expired.",
        headers=_challenge("invalid_token", "The access token has expired"),
    ),
    Refusal(
        when="response.code_details.contains('Jwt_is_missing')",
        http=401,
        code=code_pb2.UNAUTHENTICATED,
        reason=reason_pb2.REASON_TOKEN_MISSING,
        message="This call needs an access token.",
        headers=_challenge(),
    ),
    Refusal(
        when="response.code_details.contains('Jwks_remote_fetch_is_failed')",
        http=503,
        code=code_pb2.UNAVAILABLE,
        reason=reason_pb2.REASON_DEPENDENCY_UNAVAILABLE,
        message="Access tokens cannot be checked at the moment: try again shortly.",
        retry=1,
    ),
    Refusal(
        when=_JWT_FILTER,
        http=401,
        code=code_pb2.UNAUTHENTICATED,
        reason=reason_pb2.REASON_TOKEN_INVALID,
        message="The access token is not valid here.",
        headers=_challenge("invalid_token", "The access token is not valid here"),
    ),
)


def _too_often(rpcs: Iterable[Rpc], strict_rate: Rate | None) -> Iterator[Refusal]:
    """What the limits per address refuse. Behind the transcoder, paths are those of methods."""
    limited = "response.code_details == 'local_rate_limited'"
    paths = "|".join(rpc.path for rpc in rpcs if rpc.strictly_limited)
    waits = {"": 1} if strict_rate is None else {paths: strict_rate.wait, "": 1}
    for where, seconds in waits.items():
        yield Refusal(
            when=limited,
            paths=where,
            http=429,
            code=code_pb2.RESOURCE_EXHAUSTED,
            reason=reason_pb2.REASON_RATE_LIMITED,
            message="Too many calls from this address: slow down.",
            retry=seconds,
        )


def _wrong_verbs(rpcs: Iterable[Rpc]) -> Iterator[Refusal]:
    """405 for paths that exist with another verb. The transcoder says 404 of both."""
    verbs: dict[str, set[str]] = defaultdict(set)
    for rpc in rpcs:
        for binding in rpc.bindings:
            verbs[binding.pattern].add(binding.verb)
    patterns: dict[str, list[str]] = defaultdict(list)
    for pattern, allowed in sorted(verbs.items()):
        patterns[", ".join(sorted(allowed))].append(pattern)
    for allow, paths in patterns.items():
        yield Refusal(
            when="response.code == 404",
            calls="rest",
            paths="|".join(paths),
            http=405,
            code=code_pb2.NOT_FOUND,
            reason=reason_pb2.REASON_ROUTE_NOT_FOUND,
            message=f"This path does not take the method of the request; it takes {allow}.",
            headers={"allow": allow},
        )


def _malformed(when: str, message: str, http: int = 400) -> Refusal:
    return Refusal(
        when, http, code_pb2.INVALID_ARGUMENT, reason_pb2.REASON_MALFORMED_REQUEST, message
    )


_REQUEST = (
    _malformed(
        "response.code == 400 && response.code_details == 'direct_response'",
        "The query repeats what is part of the path, or escapes the name of a parameter.",
    ),
    Refusal(
        when="response.code == 404",
        calls="native",
        http=404,
        code=code_pb2.UNIMPLEMENTED,
        reason=reason_pb2.REASON_METHOD_NOT_IMPLEMENTED,
        message="There is no such method here.",
    ),
    Refusal(
        when="response.code == 404",
        http=404,
        code=code_pb2.NOT_FOUND,
        reason=reason_pb2.REASON_ROUTE_NOT_FOUND,
        message="No method of the API has this path.",
    ),
    _malformed(
        "response.code == 400 && response.code_details.contains('grpc_json_transcode_failure')",
        _TRANSCODER_TEXT,
    ),
    Refusal(
        when="response.code == 408",
        http=408,
        code=code_pb2.DEADLINE_EXCEEDED,
        reason=reason_pb2.REASON_DEADLINE_EXCEEDED,
        message="The request took too long to arrive.",
    ),
    Refusal(
        when="response.code == 413",
        http=413,
        code=code_pb2.RESOURCE_EXHAUSTED,
        reason=reason_pb2.REASON_BODY_TOO_LARGE,
        message="The request body is over 64 KiB.",
    ),
    _malformed("response.code == 426", "HTTP/1.1 or HTTP/2 is needed.", 426),
    _malformed("response.code == 431", "The address and headers are too large.", 431),
    # 403: an upgrade of the connection. 501: a transfer-encoding that is none.
    _malformed("response.code in [403, 501]", "The request is not HTTP as it is spoken here."),
    _malformed("response.code >= 400 && response.code < 500", "The request cannot be read.", 0),
)


_SERVER = (
    Refusal(
        when="response.code == 503",
        http=503,
        code=code_pb2.UNAVAILABLE,
        reason=reason_pb2.REASON_DEPENDENCY_UNAVAILABLE,
        message="The service does not answer: try again shortly.",
        retry=1,
    ),
    Refusal(
        when="response.code == 504",
        http=504,
        code=code_pb2.DEADLINE_EXCEEDED,
        reason=reason_pb2.REASON_DEADLINE_EXCEEDED,
        message="The answer was not ready in time.",
    ),
    Refusal(
        when="response.code >= 500",
        http=500,
        code=code_pb2.INTERNAL,
        reason=reason_pb2.REASON_INTERNAL,
        message="Something went wrong on our side.",
    ),
)
