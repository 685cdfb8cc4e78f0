"""The service of things in the test's own process: the real layers, on a free port."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc

from services.kit import auth, interceptors
from services.kit.call import Caller
from services.kit.db import Database
from services.kit.methods import Recall
from services.kit.server import Server
from tests import callers
from tests.kit.things import Things, ThingStub, add_to_server


@dataclass
class Served:
    """A served service of things, and its client."""

    stub: ThingStub
    channel: grpc.aio.Channel
    things: Things
    server: Server
    database: Database | None = None

    @property
    def db(self) -> Database:
        """The database, for services that have one."""
        assert self.database is not None
        return self.database


async def always_ready() -> bool:
    """The readiness of a service that needs nothing."""
    return True


def authenticator(
    *, check_session: Callable[[Caller], Awaitable[Caller]] | None = None
) -> auth.Authenticator:
    """It knows the key that `tests.callers` signs with."""
    return auth.Authenticator(
        auth.AccessTokens(auth.Keys(callers.published_keys), issuer=callers.ISSUER),
        auth.ServiceCredential("things", callers.SECRET),
        check_session=check_session,
    )


async def same(caller: Caller) -> Caller:
    """A session check that lets everybody through."""
    return caller


@contextlib.asynccontextmanager
async def serving(
    database: Database | None = None,
    *,
    check_session: Callable[[Caller], Awaitable[Caller]] = same,
    ready: Callable[[], Awaitable[bool]] | None = None,
    concurrent_rpcs: int = 256,
    drain_seconds: float = 1.0,
    telling_seconds: float = 0.0,
    secrets: Sequence[str] = (callers.SECRET,),
    **recalls: Recall,
) -> AsyncIterator[Served]:
    """Serve things until the block ends; `recalls` is what a server's `add` takes."""
    layers = interceptors.stack(
        authenticator(check_session=check_session),
        secrets=[secret.encode() for secret in secrets],
        concurrent_rpcs=concurrent_rpcs,
    )
    asked = ready or (database.ready if database is not None else always_ready)
    server = Server(
        "127.0.0.1:0",
        layers,
        ready=asked,
        concurrent_rpcs=concurrent_rpcs,
        drain_seconds=drain_seconds,
        telling_seconds=telling_seconds,
    )
    things = Things()
    server.add(add_to_server, things, **recalls)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Served(ThingStub(channel), channel, things, server, database)
    finally:
        await server.stop()
