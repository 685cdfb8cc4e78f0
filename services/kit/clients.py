"""Calling other services: one channel each; every call has a credential, request id, deadline."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, cast

import grpc
from google.rpc import error_details_pb2, status_pb2

from services.kit import call, errors, tracing
from services.kit.auth import SERVICE_HEADER, ServiceCredential
from shop.errors.v1.reason_pb2 import Reason

DEFAULT_SECONDS = 2.0
# What the answer needs to travel back within the caller's own deadline.
MARGIN_SECONDS = 0.02
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def connect(
    target: str,
    credential: ServiceCredential,
    *,
    idempotent: Collection[str] = (),
    seconds: float = DEFAULT_SECONDS,
) -> grpc.aio.Channel:
    """A channel to `host:port`, or several separated by commas, between which calls are spread.

    Calls of the `idempotent` methods (`package.Service/Method`) are tried again on UNAVAILABLE
    and CANCELLED. A call is given `seconds`, or what is left of the deadline of the call being
    answered, if that is less.
    """
    names = [dict(zip(("service", "method"), path.split("/"), strict=True)) for path in idempotent]
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if names:
        policy = {
            "maxAttempts": 3,
            "initialBackoff": "0.05s",
            "maxBackoff": "0.5s",
            "backoffMultiplier": 2,
            # CANCELLED: a server that is ending says so to calls that it has not looked at.
            "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
        }
        config["methodConfig"] = [{"name": names, "retryPolicy": policy}]
    options = [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # Behind a name, processes come and go: by default it is asked for at most every 30 s.
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ]
    address = target if "," not in target else f"ipv4:{target}"
    channel = grpc.aio.insecure_channel(address, options=options)
    return cast("grpc.aio.Channel", _Channel(channel, credential, seconds))


class _Channel:
    """A channel whose calls have all that is said above; stubs are made from it.

    An interceptor of grpc.aio would cost each call a task and two copies of its metadata.
    """

    def __init__(
        self, channel: grpc.aio.Channel, credential: ServiceCredential, seconds: float
    ) -> None:
        self._channel = channel
        self._credential = credential
        self._seconds = seconds
        self.close = channel.close
        # Stubs make all their methods at once; services ask each other for no streams.
        self.unary_stream = channel.unary_stream

    def unary_unary(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """What `grpc.aio.Channel.unary_unary` gives, for a method that is called like that."""
        method = self._channel.unary_unary(path, *args, **kwargs)

        def ask(request: Any, *, timeout: float | None = None, metadata: Sequence[Any] = ()) -> Any:
            seconds = timeout or self._seconds
            sent = [*metadata, (SERVICE_HEADER, self._credential.token())]
            current = call.current_or_none()
            if current is not None:
                sent.append(("x-request-id", current.request_id))
                seconds = min(seconds, current.remaining() - MARGIN_SECONDS)
                if seconds <= 0:
                    raise TimeoutError("no time left for the call")
            return method(request, timeout=seconds, metadata=sent)

        return tracing.current().asking(path, ask)

    async def __aenter__(self) -> _Channel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()


def refusal(error: grpc.aio.AioRpcError) -> errors.ServiceError | None:
    """Why another service refused a call, for callers who know what to make of its reasons.

    None when it gave none of ours: it is away, or something else answered.
    """
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == errors.STATUS_DETAILS:
            status.ParseFromString(value)
    info, failure = error_details_pb2.ErrorInfo(), error_details_pb2.PreconditionFailure()
    for detail in status.details:
        detail.Unpack(info) or detail.Unpack(failure)
    name = f"REASON_{info.reason}"
    if info.domain != errors.DOMAIN or name not in Reason.keys():  # noqa: SIM118 - no mapping
        return None
    return errors.ServiceError(
        error.code(),
        Reason.Value(name),
        error.details() or "",
        metadata=dict(info.metadata),
        preconditions=[
            errors.PreconditionViolation(item.subject, item.description)
            for item in failure.violations
        ],
    )


def error_of(status: status_pb2.Status) -> grpc.aio.AioRpcError:
    """What a call raises that is refused with this: for one of several that were asked together."""
    details = (errors.STATUS_DETAILS, status.SerializeToString())
    return grpc.aio.AioRpcError(
        _CODES[status.code],
        grpc.aio.Metadata(),
        grpc.aio.Metadata(details),
        details=status.message,
    )


def on_behalf_of_caller() -> tuple[tuple[str, str], ...]:
    """Metadata that makes an outgoing call in the name of the user who is being answered."""
    authorization = call.current().authorization
    if not authorization:
        raise errors.internal()
    return (("authorization", authorization),)
