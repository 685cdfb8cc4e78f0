"""What happens around every method, from the outside in.

recall, observe, answer, limit, authenticate, validate, conditional, idempotent, retry; and around
them all, where traces are taken, what takes them.

Each layer is a function from a method and its handler to a handler. They are put around a handler
once, when it is registered (`kit.server`), and not looked up per call: an interceptor of grpc.aio
would cost each call a continuation and a new handler object.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import grpc

from services.kit import (
    call,
    errors,
    failures,
    idempotency,
    logs,
    metrics,
    tracing,
)
from services.kit.auth import SERVICE_HEADER, Authenticator
from services.kit.conditional import (
    CAME_AS_REST,
    HTTP_CODE,
    KEPT_FOR_SURE_BYTES,
    answering,
    conditional,
    tell,
)
from services.kit.deadlines import Deadlines
from services.kit.errors import ServiceError
from services.kit.ids import request_id
from services.kit.methods import Handler, Layer, Method, compose
from services.kit.requests import validate
from shop.errors.v1 import reason_pb2
from shop.options.v1 import access_pb2

__all__ = ["Handler", "Layer", "Method", "compose", "stack"]

log = logs.logger("rpc")

# A call that comes without a deadline gets this one.
DEFAULT_SECONDS = 10.0
# What a call's handler leaves of its time, at most a tenth, for undoing and saying so.
MARGIN_SECONDS = 0.1
SLOW_SECONDS = 1.0
ATTEMPTS = 4
SERVER_FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}


def stack(
    auth: Authenticator,
    *,
    secrets: Sequence[bytes],
    concurrent_rpcs: int = 256,
    refuse_card_numbers: bool = True,
) -> list[Layer]:
    """The layers of every service, outermost first; `secrets` key idempotency fingerprints."""
    return [
        *tracing.current().layers,
        recall,
        observe,
        answer,
        limit(concurrent_rpcs),
        authenticate(auth),
        validate(refuse_card_numbers=refuse_card_numbers),
        conditional,
        idempotent(secrets),
        retry,
    ]


def recall(method: Method, handler: Handler) -> Handler:
    """Give callers without a token what the service remembers, before anything else is looked at.

    Somebody has asked the same before, and got this answer through all layers. There is nothing to
    permit, to wait for, to end or to pass on, so they are left out: they would cost as much as
    gRPC's own Python. It is counted, timed and logged like any other call.
    """
    known = method.recall
    if known is None:
        return handler
    if method.access != access_pb2.ACCESS_PUBLIC or not method.cacheable:
        raise RuntimeError(f"{method.path} is not the same for everybody")
    say = answering(method)
    calls = metrics.calls_of(method.path)

    async def recalled(request: Any, context: Any) -> Any:
        began = time.perf_counter()
        metadata = call.metadata()
        remembered = None if "authorization" in metadata else known(request)
        if remembered is None:
            return await handler(request, context)
        code = "CANCELLED"  # unless it comes to an end
        try:
            if CAME_AS_REST in metadata:
                raw = await say(remembered, context, metadata, for_all=True)
            else:
                raw = remembered.raw
            code = "OK"
            return raw
        finally:
            took = time.perf_counter() - began
            calls.ended(code, took)
            if logs.shows(logging.DEBUG):
                current = call.Call(method.path, request_id(metadata.get("x-request-id")))
                call.begin(current)
                _log(method, current, code, took)

    return recalled


def observe(method: Method, handler: Handler) -> Handler:
    """Begin the call; count it, time it, log it: errors always, slow calls and changes at info."""
    calls = metrics.calls_of(method.path)

    async def observed(request: Any, context: Any) -> Any:
        began = time.perf_counter()
        metadata = call.metadata()
        left = context.time_remaining()
        deadline = asyncio.get_running_loop().time() + (DEFAULT_SECONDS if left is None else left)
        current = call.Call(
            method.path, request_id(metadata.get("x-request-id")), deadline, metadata=metadata
        )
        call.begin(current)
        code = "CANCELLED"  # unless it comes to an end
        try:
            result = await handler(request, context)
            code = "OK"
        except grpc.aio.AbortError:
            code = current.refusal.code.name if current.refusal is not None else "UNKNOWN"
            raise
        else:
            return result
        finally:
            took = time.perf_counter() - began
            calls.ended(code, took)
            _log(method, current, code, took)

    return observed


def _log(method: Method, current: call.Call, code: str, took: float) -> None:
    ms = round(took * 1000, 2)
    if current.refusal is not None:
        reason = errors.name(current.refusal.reason)
        write = log.error if current.refusal.code in SERVER_FAULTS else log.info
        write("call", code=code, reason=reason, ms=ms)
    elif method.reads and took < SLOW_SECONDS:
        if logs.shows(logging.DEBUG):  # asking costs less than not being written
            log.debug("call", code=code, ms=ms)
    else:
        log.info("call", code=code, ms=ms)


def answer(method: Method, handler: Handler) -> Handler:
    """Turn whatever is raised into a status. Nobody else sets codes, and nothing of ours leaks out.

    grpc.aio would send the text of any exception to the client. A CancelledError that does not come
    from the client's own cancelling would leave the client waiting until its deadline, so it
    becomes UNAVAILABLE.
    """

    async def answered(request: Any, context: Any) -> Any:
        try:
            result = await handler(request, context)
        except asyncio.CancelledError as exception:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            await _refuse(context, failures.refusal(exception))
        except Exception as exception:
            await _refuse(context, failures.refusal(exception))
        current = call.current()
        if current.location:
            is_kept = result.ByteSize() <= KEPT_FOR_SURE_BYTES
            await tell(
                context,
                [(HTTP_CODE, "201"), ("location", current.location)],
                behind=CAME_AS_REST in current.metadata and is_kept,
            )
        return result

    return answered


async def _refuse(context: Any, error: ServiceError) -> NoReturn:
    call.current().refusal = error
    metadata: list[tuple[str, str | bytes]] = [
        (errors.STATUS_DETAILS, error.status().SerializeToString())
    ]
    if error.code is grpc.StatusCode.UNAUTHENTICATED:  # a 401 has to say it (RFC 9110, 15.5.2)
        metadata.append(("www-authenticate", 'Bearer realm="shop"'))
    if error.http_code:
        metadata.append((HTTP_CODE, str(error.http_code)))
    await context.abort(error.code, error.message, tuple(metadata))
    raise AssertionError("abort always raises")


def limit(concurrent_rpcs: int) -> Layer:
    """Refuse at once what is too much at a time, and end what takes too long.

    `maximum_concurrent_rpcs` of grpc.aio would refuse without saying when to come back, and would
    refuse health checks as well: the busiest process would be taken for a dead one.
    """
    running = Deadlines()
    metrics.RPC_IN_FLIGHT.set_function(lambda: len(running))

    def layer(method: Method, handler: Handler) -> Handler:
        if method.streams:
            return handler  # it waits more than it works, and has limits of its own

        async def limited(request: Any, context: Any) -> Any:
            if len(running) >= concurrent_rpcs:
                raise errors.overloaded()
            current = call.current()
            # Before the caller stops waiting: grpc.aio would end the call without a reason.
            margin = min(current.remaining() / 10, MARGIN_SECONDS)
            until = current.deadline - margin
            return await running.keep(until, handler, request, context)

        return limited

    return layer


def authenticate(auth: Authenticator) -> Layer:
    """Find out who calls, and refuse those whom the method's access option does not let in."""

    def layer(method: Method, handler: Handler) -> Handler:
        if method.checks_session and auth.check_session is None:
            raise RuntimeError(f"{method.path} checks sessions, but the service cannot")
        permit = _permit(method)
        check_session = auth.check_session if method.checks_session else None

        async def authenticated(request: Any, context: Any) -> Any:
            current = call.current()
            if not method.ignores_credentials:
                authorization = current.metadata.get("authorization")
                if authorization:
                    current.caller = await auth.user(authorization)
                    current.authorization = authorization
                if method.access == access_pb2.ACCESS_SERVICE:
                    service_token = current.metadata.get(SERVICE_HEADER)
                    if service_token:
                        current.caller = auth.service(service_token)
            permit(current.caller)
            if check_session is not None:
                current.caller = await check_session(current.caller)
                permit(current.caller)  # the token may still tell the role of ten minutes ago
            return await handler(request, context)

        return authenticated

    return layer


def _permit(method: Method) -> Callable[[call.Caller], None]:
    """What raises for callers that the method does not let in.

    OWNER lets any user in: whose the resource is, the handler knows.
    """
    signed_in = (
        access_pb2.ACCESS_CUSTOMER,
        access_pb2.ACCESS_OWNER,
        access_pb2.ACCESS_STAFF,
        access_pb2.ACCESS_ADMIN,
    )

    def permit(caller: call.Caller) -> None:
        if method.access == access_pb2.ACCESS_PUBLIC:
            return
        if method.access == access_pb2.ACCESS_SERVICE:
            if not caller.service:
                raise errors.unauthenticated(
                    reason_pb2.REASON_SERVICE_CREDENTIAL_INVALID,
                    "This method is for services of the shop.",
                )
            return
        if method.access not in signed_in:
            raise errors.permission_denied(
                reason_pb2.REASON_ACCESS_UNDECLARED,
                "Nobody may call this method.",
                method=method.path,
            )
        if caller.user_id is None:
            raise errors.unauthenticated(
                reason_pb2.REASON_TOKEN_MISSING,
                "Sign in, and send `authorization: Bearer <access token>`.",
            )
        low = (method.access == access_pb2.ACCESS_STAFF and not caller.is_staff) or (
            method.access == access_pb2.ACCESS_ADMIN and caller.role != access_pb2.ACCESS_ADMIN
        )
        if low:
            role = access_pb2.Access.Name(method.access).removeprefix("ACCESS_")
            raise errors.permission_denied(
                reason_pb2.REASON_ROLE_REQUIRED, f"This needs the role {role}.", role=role
            )

    return permit


def idempotent(secrets: Sequence[bytes]) -> Layer:
    """Let a call that has an `idempotency-key` have its effect once (see `kit.idempotency`)."""

    def layer(method: Method, handler: Handler) -> Handler:
        if method.reads:
            return handler

        async def keyed(request: Any, context: Any) -> Any:
            current = call.current()
            key = current.metadata.get("idempotency-key")
            if key is None:
                return await handler(request, context)
            raw = request.SerializeToString(deterministic=True)
            current.claim = idempotency.claim(
                key, method.path, current.caller, raw, secrets, method.answer
            )
            try:
                return await handler(request, context)
            except idempotency.Replay as replay:
                current.location = replay.location
                return replay.answer

        return keyed

    return layer


def retry(method: Method, handler: Handler) -> Handler:
    """Run the handler again, thrice at most, when Postgres had its transaction give way.

    Not when another transaction of the call has been committed: what it did would be done twice.
    """
    if method.reads:
        return handler

    async def retried(request: Any, context: Any) -> Any:
        for attempt in range(1, ATTEMPTS):
            try:
                return await handler(request, context)
            except failures.CONFLICTS:
                if call.current().committed:
                    raise
                await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - jitter
        return await handler(request, context)

    return retried
