"""Whose things a caller may touch, and whether the session that they call from is still alive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import UUID

from services.kit import call, errors, ids
from services.kit.auth import ROLES
from services.kit.call import Caller
from services.kit.db import Database
from services.users import rules, session_store

ME = "me"


def whose(text: str) -> UUID:
    """The user whom a request names: the caller, also as `me`; for staff, anybody.

    Raises NOT_FOUND.
    """
    caller = call.caller()
    id = call.user_id() if text == ME else ids.parse(text, "user")
    if not caller.may_see(id):
        raise errors.not_found("user", text)
    return id


def session_check(database: Database) -> Callable[[Caller], Awaitable[Caller]]:
    """What looks up the session of a caller, and the role that they have now.

    It raises UNAUTHENTICATED (SESSION_ENDED): also when the user was disabled or deleted.
    """

    async def check(caller: Caller) -> Caller:
        async with database.connection() as connection:
            session = caller.session_id and await session_store.live(connection, caller.session_id)
        if not session or session["user_id"] != caller.user_id:
            raise rules.session_ended()
        return replace(caller, role=ROLES[session["role"]])

    return check
