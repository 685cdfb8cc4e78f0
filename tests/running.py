"""A service in the test's own process: the real servicers in the real layers, on a free port."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from sqlalchemy import MetaData

from services.kit import auth, interceptors
from services.kit.call import Caller
from services.kit.db import Database
from services.kit.methods import Handler, Method
from services.kit.server import Server
from tests import callers

Add = Callable[[Any, Any], None]
# What a service waits for, on a machine that has much else to do.
PATIENCE_SECONDS = 20.0
# In statements of asyncpg's own: on each connection it asks once what it has to know of a type.
ASYNCPGS_OWN = ("current_setting('jit')", "typeinfo_tree")


@dataclass
class Running:
    """A served service, and what tests look at."""

    channel: grpc.aio.Channel
    database: Database
    port: int
    statements: list[str] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def counting(self) -> AsyncIterator[list[str]]:
        """The statements that run meanwhile, without BEGIN, COMMIT and asyncpg's own."""
        self.statements.clear()
        yield self.statements
        self.statements[:] = [
            text
            for text in self.statements
            if text.split()[0] not in ("BEGIN;", "COMMIT;")
            and not any(own in text for own in ASYNCPGS_OWN)
        ]


@contextlib.asynccontextmanager
async def serving(
    url: str,
    metadata: MetaData,
    servicers: Callable[[Database], list[tuple[Add, Any]]],
    *,
    check_session: Callable[[Caller], Awaitable[Caller]] | None = None,
    connections: int = 10,
) -> AsyncIterator[Running]:
    """Serve what `servicers(database)` gives, until the block ends."""
    statements: list[str] = []
    database = await Database.open(
        url,
        metadata,
        name="tests",
        connections=connections,
        on_query=lambda record: statements.append(record.query),
    )
    database.pool.acquire_seconds = PATIENCE_SECONDS
    keys = auth.Keys(callers.published_keys)
    authenticator = auth.Authenticator(
        auth.AccessTokens(keys, issuer=callers.ISSUER),
        auth.ServiceCredential("tested", callers.SECRET),
        check_session=check_session,
    )
    layers = [*interceptors.stack(authenticator, secrets=[callers.SECRET.encode()]), unchanged]
    server = Server("127.0.0.1:0", layers, ready=database.ready, drain_seconds=0.5)
    for add, servicer in servicers(database):
        server.add(add, servicer)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Running(channel, database, server.port, statements)
    await server.stop()
    await database.close()


def unchanged(method: Method, handler: Handler) -> Handler:
    """The innermost layer: who reads leaves the request as it is, since calls may share it."""
    if not method.reads:
        return handler

    async def watched(request: Any, context: Any) -> Any:
        before = request.SerializeToString(deterministic=True)
        try:
            return await handler(request, context)
        finally:
            assert request.SerializeToString(deterministic=True) == before, method.path

    return watched


@dataclass
class Refusal:
    """What a refused call said."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    fields: dict[str, str]
    retry_seconds: float | None
    preconditions: list[tuple[str, str]]


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """Read the status details of an error."""
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    info, bad, failure, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.PreconditionFailure(),
        error_details_pb2.RetryInfo(),
    )
    retry_seconds = None
    for detail in status.details:
        if detail.Unpack(retry):
            retry_seconds = retry.retry_delay.ToTimedelta().total_seconds()
        elif not detail.Unpack(info) and not detail.Unpack(bad):
            detail.Unpack(failure)
    return Refusal(
        error.code(),
        error.details() or "",
        info.reason,
        dict(info.metadata),
        {item.field: item.description for item in bad.field_violations},
        retry_seconds,
        [(item.subject, item.description) for item in failure.violations],
    )


@contextlib.contextmanager
def refused(code: grpc.StatusCode, reason: str) -> Any:
    """Expect the block's call to be refused like this; gives the `Refusal` once it was."""
    held: list[Refusal] = []
    try:
        yield held
    except grpc.aio.AioRpcError as error:
        held.append(refusal_of(error))
        assert (held[0].code, held[0].reason) == (code, reason), held[0]
    else:
        raise AssertionError(f"the call was not refused; expected {code.name} {reason}")
