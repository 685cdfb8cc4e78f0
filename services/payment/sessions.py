"""Whether a caller's session still lives, and what they may do now: asked of the users service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from grpc.aio import AioRpcError

from services.kit import clients, errors
from services.kit.auth import ROLES
from services.kit.call import Caller
from shop.errors.v1 import reason_pb2
from shop.users.v1 import session_pb2, session_pb2_grpc
from shop.users.v1.users_pb2 import User


def session_check(
    sessions: session_pb2_grpc.SessionServiceStub,
) -> Callable[[Caller], Awaitable[Caller]]:
    """What looks up the session of a caller, for `checks_session`.

    It raises UNAUTHENTICATED (SESSION_ENDED), and UNAVAILABLE while users do not answer.
    """

    async def check(caller: Caller) -> Caller:
        try:
            session = await sessions.GetSession(
                session_pb2.GetSessionRequest(id=str(caller.session_id))
            )
        except AioRpcError as error:
            refusal = clients.refusal(error)
            if refusal is None or refusal.reason != reason_pb2.REASON_SESSION_ENDED:
                raise
            raise _ended() from None
        if session.user_id != str(caller.user_id):
            raise _ended()
        return replace(caller, role=ROLES[User.Role.Name(session.role)])

    return check


def _ended() -> errors.ServiceError:
    return errors.unauthenticated(
        reason_pb2.REASON_SESSION_ENDED, "The session has ended: sign in again."
    )
