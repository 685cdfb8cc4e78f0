"""The connections that a process lends to its calls.

asyncpg's pool makes them, ends them, and knows how many there may be. To take one there and to give
it back costs a task, a future, a proxy and a queue, as much as a small statement. So a connection
that comes back in good order is kept at hand here and lent again as it is; the pool gets back what
a call has failed with, what is closed, and what others wait for. What nobody has needed for minutes
is ended: in Postgres each connection is a process.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

import asyncpg

from services.kit import errors, logs, metrics
from services.kit.sessions import CONNECTION_LOST

log = logs.logger("db")

ACQUIRE_SECONDS = 1.5
CLOSE_SECONDS = 5
IDLE_SECONDS = 300


class Pool:
    """Connections of one kind; so many at most."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        # Nobody waits longer for a connection.
        self.acquire_seconds = ACQUIRE_SECONDS
        self._pool = pool
        self._at_hand: list[Any] = []
        # The fewest that were at hand since `_end_idle` looked: so many were not needed.
        self._spare = 0
        self._waiting = 0
        self._closes = False
        self._idle = asyncio.create_task(self._end_idle(), context=contextvars.Context())

    @classmethod
    async def open(
        cls,
        url: str,
        options: dict[str, Any],
        *,
        connections: int,
        prepare: Callable[[Any], Coroutine[Any, Any, None]],
    ) -> Pool:
        """`options` are asyncpg.connect's; `prepare` is called with each new connection."""

        created: asyncpg.Pool = await asyncpg.create_pool(
            url,
            min_size=0,
            max_size=connections,
            max_inactive_connection_lifetime=0,
            init=prepare,
            reset=_leave_as_it_is,
            **options,
        )
        return cls(created)

    @property
    def limit(self) -> int:
        """How many connections there may be."""
        return self._pool.get_max_size()

    @property
    def in_use(self) -> int:
        """How many are lent out."""
        return self._pool.get_size() - self._pool.get_idle_size() - len(self._at_hand)

    def connection(self) -> Lent:
        """One of them, for a while.

        Raises RESOURCE_EXHAUSTED if none comes free, UNAVAILABLE if Postgres does not answer.
        """
        return Lent(self)

    async def take(self) -> Any:
        """One of them, which has to be given back. Raises as `connection` does."""
        while self._at_hand:
            connection = self._at_hand.pop()
            self._spare = min(self._spare, len(self._at_hand))
            if not _is_lost(connection):
                return connection
            await self._return(connection)
        self._waiting += 1
        try:
            if self._pool.get_idle_size():  # there is nothing to wait for
                return await self._pool.acquire()
            # The pool's own timeout would cost each call a task.
            async with asyncio.timeout(self.acquire_seconds):
                return await self._pool.acquire()
        except TimeoutError as error:
            if self._pool.get_size() < self.limit:
                raise _away(error) from error
            metrics.POOL_REFUSED.inc()
            raise errors.overloaded() from None
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, *CONNECTION_LOST) as error:
            raise _away(error) from error
        finally:
            self._waiting -= 1

    async def give_back(self, connection: Any, *, in_order: bool) -> None:
        """Lend it to others. What may still be at work, or half undone, is not `in_order`."""
        if in_order and not self._waiting and not self._closes and not _is_lost(connection):
            self._at_hand.append(connection)
        else:
            await self._return(connection)

    async def close(self) -> None:
        """End the connections; what still runs on them is ended after 5 s."""
        self._closes = True
        self._idle.cancel()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(self._idle, return_exceptions=True)
                while self._at_hand:
                    await self._return(self._at_hand.pop())
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def _end_idle(self) -> None:
        """End what was not needed since the last look, but for one.

        It is the first of those at hand: who comes back last is lent first.
        """
        while True:
            self._spare = len(self._at_hand)
            await asyncio.sleep(IDLE_SECONDS)
            spare = max(0, min(self._spare, len(self._at_hand) - 1))
            idle, self._at_hand = self._at_hand[:spare], self._at_hand[spare:]
            try:
                while idle:
                    await self._end(idle.pop())
            finally:
                self._at_hand += idle  # the service ends

    async def _end(self, connection: Any) -> None:
        try:
            await connection.close(timeout=CLOSE_SECONDS)
        except (TimeoutError, OSError, asyncpg.PostgresError, *CONNECTION_LOST):
            connection.terminate()
        finally:
            await self._return(connection)

    async def _return(self, connection: Any) -> None:
        await self._pool.release(connection, timeout=ACQUIRE_SECONDS)


class Lent:
    """A connection that is lent out for a block of statements."""

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __aenter__(self) -> Any:
        self._connection = await self._pool.take()
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        connection = self._connection
        is_lost = isinstance(error, CONNECTION_LOST) or (
            # These have other causes too: a file, a wrong argument.
            isinstance(error, OSError | asyncpg.InterfaceError) and _is_lost(connection)
        )
        await self._pool.give_back(connection, in_order=error is None)
        if is_lost and isinstance(error, Exception):
            raise _away(error) from error


def _away(error: Exception) -> errors.ServiceError:
    """UNAVAILABLE: the database does not answer."""
    log.warning("the database does not answer", error=type(error).__name__)
    return errors.unavailable("The service cannot reach its database: try again.")


def _is_lost(connection: Any) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:  # the pool has taken it back already
        return True


async def _leave_as_it_is(connection: Any) -> None:
    """No session state is ever set outside a transaction, so there is nothing to reset."""
