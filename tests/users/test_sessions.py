"""Staying signed in, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from grpc import StatusCode

from services.kit.ids import uuid7
from shop.users.v1.session_pb2 import GetSessionRequest
from shop.users.v1.users_pb2 import (
    ChangePasswordRequest,
    ConfirmPasswordResetRequest,
    DeleteUserRequest,
    LogoutRequest,
    RefreshTokenRequest,
    RequestPasswordResetRequest,
    SetUserDisabledRequest,
    SetUserRoleRequest,
    TokenGrant,
    User,
)
from tests import callers
from tests.running import refusal_of, refused
from tests.users.people import NEW_PASSWORD, PASSWORD, People, Person, Served


async def session_of(people: People, person: Person) -> str:
    """The id of the only session of a user."""
    return str(
        await people.owner.fetchval("SELECT id FROM users.sessions WHERE user_id = $1", person.id)
    )


class TestRefreshToken:
    async def test_each_token_works_once_and_its_successor_after_it(self, people: People) -> None:
        person = await people.sign_up()
        seen = {person.grant.refresh_token}
        for _ in range(3):
            person.grant = await person.refresh()
            seen.add(person.grant.refresh_token)
        assert len(seen) == 4

    async def test_the_new_access_token_works(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        person.grant = await person.refresh()
        await served.auth.Logout(LogoutRequest(), metadata=person())

    async def test_a_used_token_ends_the_whole_session(self, people: People) -> None:
        person = await people.sign_up()
        first = person.grant
        for _ in range(3):
            person.grant = await person.refresh()
        last, person.grant = person.grant, first
        with refused(StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_REUSED"):
            await person.refresh()
        person.grant = last
        with refused(StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
            await person.refresh()

    async def test_other_sessions_of_the_user_go_on(self, people: People) -> None:
        person = await people.sign_up()
        other = await person.sign_in()
        await person.refresh()
        with refused(StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_REUSED"):
            await person.refresh()
        assert (await other.refresh()).access_token

    async def test_of_200_at_the_same_time_at_most_one_wins_and_the_session_is_over(
        self, people: People
    ) -> None:
        """Promise A6."""
        person = await people.sign_up()
        answers: list[Any] = await asyncio.gather(
            *(person.refresh() for _ in range(200)), return_exceptions=True
        )
        winners = [answer for answer in answers if isinstance(answer, TokenGrant)]
        assert len(winners) == 1
        reasons = {refusal_of(answer).reason for answer in answers if answer not in winners}
        assert reasons == {"REFRESH_TOKEN_REUSED", "REFRESH_TOKEN_INVALID"}
        person.grant = winners[0]
        with refused(StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
            await person.refresh()

    @pytest.mark.parametrize(
        "token", ["x", "00" * 48, "00" * 47, "zz" * 48, "ü" * 96, "00 " * 48, "-" + "0" * 95]
    )
    async def test_what_was_never_granted_is_refused(
        self, people: People, served: Served, token: str
    ) -> None:
        with refused(StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
            await served.auth.RefreshToken(RefreshTokenRequest(refresh_token=token))

    async def test_30_days_without_use_end_the_session(self, people: People) -> None:
        person = await people.sign_up()
        await people.owner.execute("UPDATE users.sessions SET expire_time = now()")
        with refused(StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
            await person.refresh()

    async def test_use_makes_it_30_days_again(self, people: People) -> None:
        person = await people.sign_up()
        await people.owner.execute(
            "UPDATE users.sessions SET expire_time = now() + interval '1 minute'"
        )
        grant = await person.refresh()
        assert grant.refresh_expire_time.seconds >= person.grant.refresh_expire_time.seconds

    async def test_a_disabled_user_gets_no_token(self, people: People) -> None:
        person = await people.sign_up()
        await people.owner.execute("UPDATE users.users SET disabled = true")
        with refused(StatusCode.PERMISSION_DENIED, "USER_DISABLED"):
            await person.refresh()

    async def test_no_token_is_stored(self, people: People) -> None:
        person = await people.sign_up()
        (row,) = await people.owner.fetch("SELECT * FROM users.sessions")
        stored = b"".join(value for value in row.values() if isinstance(value, bytes))
        assert bytes.fromhex(person.grant.refresh_token)[16:] not in stored


class TestLogout:
    async def test_this_session_ends_and_no_other(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        other = await person.sign_in()
        await served.auth.Logout(LogoutRequest(), metadata=person())
        with refused(StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
            await person.refresh()
        assert (await other.refresh()).access_token

    async def test_all_sessions_of_the_caller_end_and_nobody_elses(
        self, people: People, served: Served
    ) -> None:
        person, stranger = await people.sign_up(), await people.sign_up()
        other = await person.sign_in()
        await served.auth.Logout(LogoutRequest(all_sessions=True), metadata=person())
        for ended in (person, other):
            with refused(StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
                await ended.refresh()
        assert (await stranger.refresh()).access_token

    @pytest.mark.parametrize("all_sessions", [False, True])
    async def test_twice_is_fine(self, people: People, served: Served, all_sessions: bool) -> None:
        person = await people.sign_up()
        for _ in range(2):
            await served.auth.Logout(LogoutRequest(all_sessions=all_sessions), metadata=person())


class TestGetSession:
    async def test_services_learn_whose_it_is_and_what_they_may_do_now(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up("STAFF")
        id = await session_of(people, person)
        session = await served.sessions.GetSession(
            GetSessionRequest(id=id), metadata=callers.service()
        )
        assert (session.id, session.user_id) == (id, str(person.id))
        assert session.role == User.STAFF
        assert session.expire_time.seconds > session.create_time.seconds

    async def test_there_never_was_such_a_session(self, people: People, served: Served) -> None:
        with refused(StatusCode.UNAUTHENTICATED, "SESSION_ENDED"):
            await served.sessions.GetSession(
                GetSessionRequest(id=str(uuid7())), metadata=callers.service()
            )

    @pytest.mark.parametrize("role", ["", "CUSTOMER", "ADMIN"])
    async def test_users_may_not_ask(self, people: People, served: Served, role: str) -> None:
        """Promise A12."""
        admin = await people.sign_up(role or "CUSTOMER")
        id = await session_of(people, admin)
        with refused(StatusCode.UNAUTHENTICATED, "SERVICE_CREDENTIAL_INVALID"):
            await served.sessions.GetSession(
                GetSessionRequest(id=id), metadata=admin() if role else ()
            )


End = Callable[[Served, People, Person], Awaitable[Any]]


async def log_out(served: Served, people: People, person: Person) -> None:
    await served.auth.Logout(LogoutRequest(), metadata=person())


async def log_out_everywhere(served: Served, people: People, person: Person) -> None:
    elsewhere = await person.sign_in()
    await served.auth.Logout(LogoutRequest(all_sessions=True), metadata=elsewhere())


async def change_the_password_elsewhere(served: Served, people: People, person: Person) -> None:
    elsewhere = await person.sign_in()
    await served.users.ChangePassword(
        ChangePasswordRequest(id="me", current_password=PASSWORD, new_password=NEW_PASSWORD),
        metadata=elsewhere(),
    )


async def reset_the_password(served: Served, people: People, person: Person) -> None:
    await served.auth.RequestPasswordReset(RequestPasswordResetRequest(email=person.email))
    token = await served.token_to(person.email, 2)
    await served.auth.ConfirmPasswordReset(
        ConfirmPasswordResetRequest(token=token, new_password=NEW_PASSWORD)
    )


async def be_disabled(served: Served, people: People, person: Person) -> None:
    admin = await people.sign_up("ADMIN")
    await served.users.SetUserDisabled(
        SetUserDisabledRequest(id=str(person.id), disabled=True), metadata=admin()
    )


async def be_deleted(served: Served, people: People, person: Person) -> None:
    staff = await people.sign_up("ADMIN")
    await served.users.DeleteUser(DeleteUserRequest(id=str(person.id)), metadata=staff())


class TestTheEndOfASession:
    """Promise A7."""

    @pytest.mark.parametrize(
        "end",
        [
            log_out,
            log_out_everywhere,
            change_the_password_elsewhere,
            reset_the_password,
            be_disabled,
            be_deleted,
        ],
    )
    async def test_neither_refresh_nor_sensitive_methods_work_from_then_on(
        self, people: People, served: Served, end: End
    ) -> None:
        person = await people.sign_up("ADMIN")
        id = await session_of(people, person)
        await end(served, people, person)
        sensitive: list[Awaitable[Any]] = [
            served.users.ChangePassword(
                ChangePasswordRequest(
                    id="me", current_password=PASSWORD, new_password=NEW_PASSWORD
                ),
                metadata=person(),
            ),
            served.users.DeleteUser(DeleteUserRequest(id="me"), metadata=person()),
            served.users.SetUserRole(
                SetUserRoleRequest(id="me", role=User.CUSTOMER), metadata=person()
            ),
            served.users.SetUserDisabled(
                SetUserDisabledRequest(id="me", disabled=False), metadata=person()
            ),
            served.sessions.GetSession(GetSessionRequest(id=id), metadata=callers.service()),
        ]
        for call in sensitive:
            with refused(StatusCode.UNAUTHENTICATED, "SESSION_ENDED"):
                await call
        with refused(StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
            await person.refresh()

    async def test_a_login_with_the_old_password_begins_none_after_the_new_one_is_set(
        self, people: People
    ) -> None:
        person = await people.sign_up()
        async with people.held_up(person.sign_in()) as login:
            await people.owner.execute("UPDATE users.users SET password_hash = 'another'")
        with refused(StatusCode.UNAUTHENTICATED, "INVALID_CREDENTIALS"):
            await login

    async def test_a_login_begins_none_after_the_user_was_disabled(self, people: People) -> None:
        person = await people.sign_up()
        async with people.held_up(person.sign_in()) as login:
            await people.owner.execute("UPDATE users.users SET disabled = true")
        with refused(StatusCode.PERMISSION_DENIED, "USER_DISABLED"):
            await login
