"""What happens around every method, from the outside in.

observe, answer, authenticate, validate, idempotent, retry.

Each layer is a function from a method and its handler to a handler. They are put around a handler
once, when it is registered (`kit.server`), and not looked up per call: an interceptor of grpc.aio
would cost each call a continuation and a new handler object.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import asyncpg
import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.kit import call, errors, idempotency, logs, metrics, validation
from services.kit.auth import SERVICE_HEADER, Authenticator
from services.kit.errors import ServiceError
from services.kit.ids import uuid7
from shop.errors.v1 import reason_pb2
from shop.options.v1 import access_pb2

log = logs.logger("rpc")

Handler = Callable[[Any, Any], Awaitable[Any]]
# A call that comes without a deadline gets this one.
DEFAULT_SECONDS = 10.0
SLOW_SECONDS = 1.0
ATTEMPTS = 4
READS = ("Get", "List", "BatchGet", "Watch")
SERVER_FAULTS = {"UNKNOWN", "INTERNAL", "DATA_LOSS", "UNIMPLEMENTED"}


@dataclass(frozen=True)
class Method:
    """A method as its proto declares it."""

    path: str
    name: str
    access: access_pb2.Access.ValueType
    ignores_credentials: bool
    checks_session: bool
    answer: type[Message]

    @classmethod
    def of(cls, descriptor: MethodDescriptor) -> Method:
        """Read the options of `shop/options/v1/access.proto`."""
        options = descriptor.GetOptions().Extensions
        return cls(
            path=f"/{descriptor.containing_service.full_name}/{descriptor.name}",
            name=descriptor.name,
            access=options[access_pb2.access],
            ignores_credentials=options[access_pb2.ignores_credentials],
            checks_session=options[access_pb2.checks_session],
            answer=GetMessageClass(descriptor.output_type),
        )

    @property
    def reads(self) -> bool:
        """Whether the method changes nothing (AIP-131, AIP-132): the standard verbs tell."""
        return self.name.startswith(READS)


Layer = Callable[[Method, Handler], Handler]


def compose(method: Method, handler: Handler, layers: list[Layer]) -> Handler:
    """`handler` inside all `layers`, the first of them outermost."""
    for layer in reversed(layers):
        handler = layer(method, handler)
    return handler


def stack(auth: Authenticator, *, secret: bytes) -> list[Layer]:
    """The layers of every service, outermost first; `secret` keys idempotency fingerprints."""
    return [observe, answer, authenticate(auth), validate, idempotent(secret), retry]


def observe(method: Method, handler: Handler) -> Handler:
    """Begin the call; count it, time it, log it: errors always, slow calls and changes at info."""
    seconds = metrics.RPC_SECONDS.labels(method.path)
    totals = {name: metrics.RPC_TOTAL.labels(method.path, name) for name in grpc.StatusCode.__members__}
    log_success = log.debug if method.reads else log.info

    async def observed(request: Any, context: Any) -> Any:
        began = time.perf_counter()
        metadata = dict(context.invocation_metadata() or ())
        left = context.time_remaining()
        deadline = None if left is None else asyncio.get_running_loop().time() + left
        current = call.Call(
            method.path, metadata.get("x-request-id") or str(uuid7()), deadline, metadata=metadata
        )
        call.begin(current)
        metrics.RPC_IN_FLIGHT.inc()
        code = "OK"
        try:
            async with asyncio.timeout(DEFAULT_SECONDS if left is None else None):
                return await handler(request, context)
        except grpc.aio.AbortError:
            code = context.code().name
            raise
        except BaseException:
            code = "CANCELLED"
            raise
        finally:
            took = time.perf_counter() - began
            metrics.RPC_IN_FLIGHT.dec()
            seconds.observe(took)
            totals[code].inc()
            if code in SERVER_FAULTS:
                log.error("call", code=code, ms=round(took * 1000, 2))
            elif code != "OK" or took > SLOW_SECONDS:
                log.info("call", code=code, ms=round(took * 1000, 2))
            else:
                log_success("call", code=code, ms=round(took * 1000, 2))

    return observed


def answer(method: Method, handler: Handler) -> Handler:
    """Turn whatever is raised into a status. Nobody else sets codes, and nothing of ours leaks out.

    grpc.aio would send the text of any exception to the client. A CancelledError that does not come
    from the client's own cancelling would leave the client waiting until its deadline, so it
    becomes UNAVAILABLE.
    """

    async def answered(request: Any, context: Any) -> Any:
        try:
            result = await handler(request, context)
            location = call.current().location
            if location:
                created = (("x-http-code", "201"), ("location", location))
                await context.send_initial_metadata(created)
        except grpc.aio.AbortError:
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            error = errors.ServiceError(
                grpc.StatusCode.UNAVAILABLE,
                reason_pb2.REASON_INTERRUPTED,
                "The call was interrupted: try again.",
            )
        except Exception as exception:
            error = _translate(exception)
        else:
            return result
        return await _refuse(context, error)

    return answered


async def _refuse(context: Any, error: ServiceError) -> NoReturn:
    details = (("grpc-status-details-bin", error.status().SerializeToString()),)
    await context.abort(error.code, error.message, details)
    raise AssertionError("abort always raises")


def _translate(exception: Exception) -> ServiceError:
    """The error to show for what was raised; the unexpected is logged and becomes INTERNAL."""
    match exception:
        case ServiceError():
            return exception
        case TimeoutError() | asyncpg.QueryCanceledError():
            return ServiceError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                reason_pb2.REASON_DEADLINE_EXCEEDED,
                "The call took too long and was given up.",
            )
        case (
            asyncpg.SerializationError()
            | asyncpg.DeadlockDetectedError()
            | asyncpg.LockNotAvailableError()
        ):
            return ServiceError(
                grpc.StatusCode.ABORTED,
                reason_pb2.REASON_TRANSACTION_CONFLICT,
                "Other calls are changing the same thing: try again.",
            )
        case (
            asyncpg.PostgresConnectionError()
            | asyncpg.CannotConnectNowError()
            | asyncpg.AdminShutdownError()
            | asyncpg.CrashShutdownError()
            | asyncpg.TooManyConnectionsError()
            | asyncpg.InterfaceError()
            | OSError()
        ):
            log.warning("the database does not answer", error=type(exception).__name__)
            return errors.unavailable("The service cannot reach its database: try again.")
        case grpc.aio.AioRpcError():
            # Another service's status is never passed through unread.
            log.warning("a service does not answer", error=exception.code().name)
            return errors.unavailable("Another part of the shop does not answer: try again.")
        case _:
            log.error("unexpected exception", exc_info=exception)
            return errors.internal()


def authenticate(auth: Authenticator) -> Layer:
    """Find out who calls, and refuse those whom the method's access option does not let in."""

    def layer(method: Method, handler: Handler) -> Handler:
        if method.checks_session and auth.check_session is None:
            raise RuntimeError(f"{method.path} checks sessions, but the service cannot")
        permit = _permit(method)

        async def authenticated(request: Any, context: Any) -> Any:
            current = call.current()
            if not method.ignores_credentials:
                service_token = current.metadata.get(SERVICE_HEADER)
                authorization = current.metadata.get("authorization")
                if authorization:
                    current.caller = await auth.user(authorization)
                    current.authorization = authorization
                if service_token and method.access == access_pb2.ACCESS_SERVICE:
                    current.caller = auth.service(service_token)
            permit(current.caller)
            if method.checks_session and auth.check_session is not None:
                await auth.check_session(current.caller)
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
                reason_pb2.REASON_ACCESS_UNDECLARED, "Nobody may call this method."
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


def validate(method: Method, handler: Handler) -> Handler:
    """Check the request against the rules in its proto."""

    async def validated(request: Any, context: Any) -> Any:
        validation.check(request, request.SerializeToString())
        return await handler(request, context)

    return validated


def idempotent(secret: bytes) -> Layer:
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
                key, method.path, current.caller, raw, secret, method.answer
            )
            try:
                return await handler(request, context)
            except idempotency.Replay as replay:
                current.location = replay.location
                return replay.answer

        return keyed

    return layer


def retry(method: Method, handler: Handler) -> Handler:
    """Run the handler again, thrice at most, when Postgres had it give way (40001, 40P01)."""

    async def retried(request: Any, context: Any) -> Any:
        for attempt in range(1, ATTEMPTS):
            try:
                return await handler(request, context)
            except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
                await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - jitter
        return await handler(request, context)

    return retried
