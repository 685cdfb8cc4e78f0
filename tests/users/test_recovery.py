"""Tokens that come by mail: to verify an address, and to set a new password."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest
from grpc import StatusCode

from shop.users.v1.users_pb2 import (
    ConfirmPasswordResetRequest,
    CreateUserRequest,
    GetUserRequest,
    LoginRequest,
    RequestPasswordResetRequest,
    VerifyEmailRequest,
)
from tests.running import refused
from tests.users.people import NEW_PASSWORD, PASSWORD, People, Person, Served


async def verified(person: Person) -> bool:
    user = await person.served.users.GetUser(GetUserRequest(id="me"), metadata=person())
    return user.email_verified


async def request_reset(served: Served, email: str) -> None:
    await served.auth.RequestPasswordReset(RequestPasswordResetRequest(email=email))


async def confirm(served: Served, token: str, password: str = NEW_PASSWORD) -> None:
    await served.auth.ConfirmPasswordReset(
        ConfirmPasswordResetRequest(token=token, new_password=password)
    )


async def nothing_left_to_do(people: People) -> None:
    """Wait for the outbox to be empty."""
    while await people.owner.fetchval("SELECT count(*) FROM users.outbox"):
        await asyncio.sleep(0.01)


async def wins(calls: list[Awaitable[object]]) -> int:
    """How many of the calls, made at the same time, are answered."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    return sum(not isinstance(answer, BaseException) for answer in answers)


class TestVerifyEmail:
    async def test_the_token_of_the_mail_verifies_the_address(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        assert not await verified(person)
        token = await served.token_to(person.email)
        await served.auth.VerifyEmail(VerifyEmailRequest(token=token))
        assert await verified(person)

    async def test_it_works_once(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        request = VerifyEmailRequest(token=await served.token_to(person.email))
        assert await wins([served.auth.VerifyEmail(request) for _ in range(10)]) == 1
        with refused(StatusCode.INVALID_ARGUMENT, "MAIL_TOKEN_INVALID") as held:
            await served.auth.VerifyEmail(request)
        assert list(held[0].fields) == ["token"]

    async def test_repeated_with_the_same_key_it_says_yes_again(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        request = VerifyEmailRequest(token=await served.token_to(person.email))
        for _ in range(2):
            await served.auth.VerifyEmail(request, metadata=(("idempotency-key", "k"),))

    @pytest.mark.parametrize("token", ["x", "00" * 32, "ü" * 128])
    async def test_what_was_never_mailed_is_refused(
        self, people: People, served: Served, token: str
    ) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "MAIL_TOKEN_INVALID"):
            await served.auth.VerifyEmail(VerifyEmailRequest(token=token))

    async def test_after_48_hours_it_is_too_late(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        token = await served.token_to(person.email)
        left = "SELECT extract(epoch FROM expire_time - now()) FROM users.mail_tokens"
        assert 47.9 * 3600 < await people.owner.fetchval(left) <= 48 * 3600
        await people.owner.execute("UPDATE users.mail_tokens SET expire_time = now()")
        with refused(StatusCode.INVALID_ARGUMENT, "MAIL_TOKEN_INVALID"):
            await served.auth.VerifyEmail(VerifyEmailRequest(token=token))

    async def test_it_sets_no_password(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        with refused(StatusCode.INVALID_ARGUMENT, "MAIL_TOKEN_INVALID"):
            await confirm(served, await served.token_to(person.email))

    async def test_no_token_is_stored(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        token = await served.token_to(person.email)
        await nothing_left_to_do(people)
        (row,) = await people.owner.fetch("SELECT * FROM users.mail_tokens")
        assert token not in str(row)
        assert bytes.fromhex(token) not in row.values()

    async def test_no_mail_is_sent_for_what_was_rolled_back(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        with refused(StatusCode.ALREADY_EXISTS, "EMAIL_TAKEN"):
            await served.users.CreateUser(CreateUserRequest(email=person.email, password=PASSWORD))
        await nothing_left_to_do(people)
        assert len(await served.mails_to(person.email)) == 1


class TestRequestPasswordReset:
    async def test_the_answer_and_the_work_before_it_are_the_same_for_nobody(
        self, people: People, served: Served
    ) -> None:
        """Who asks waits for two statements; whether there is such a user is looked up later."""
        person, nobody = await people.sign_up(), people.address()
        method = "/shop.users.v1.AuthService/RequestPasswordReset"
        counts = []
        for email in (person.email, nobody):
            served.statements.clear()
            await request_reset(served, email)
            counts.append(served.statements[method])
        assert counts[0] == counts[1]
        await served.mails_to(person.email, 2)
        await nothing_left_to_do(people)
        with pytest.raises(AssertionError, match="0 of 1 mails"):
            await served.mails_to(nobody, seconds=0.1)

    async def test_a_new_mail_makes_the_one_before_worthless(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        await request_reset(served, person.email)
        first = await served.token_to(person.email, 2)
        await request_reset(served, person.email)
        second = await served.token_to(person.email, 3)
        with refused(StatusCode.INVALID_ARGUMENT, "MAIL_TOKEN_INVALID"):
            await confirm(served, first)
        await confirm(served, second)

    async def test_nobody_is_mailed_more_than_three_in_a_quarter_of_an_hour(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        for _ in range(6):
            await request_reset(served, person.email.upper())
        await nothing_left_to_do(people)
        assert len(await served.mails_to(person.email, 4)) == 4  # the first one verifies


class TestConfirmPasswordReset:
    async def test_it_sets_the_password_and_verifies_the_address(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        await request_reset(served, person.email)
        await confirm(served, await served.token_to(person.email, 2))
        again = await person.sign_in(NEW_PASSWORD)
        assert again.grant.user.email_verified
        with refused(StatusCode.UNAUTHENTICATED, "INVALID_CREDENTIALS"):
            await person.sign_in(PASSWORD)

    async def test_it_works_once(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        await request_reset(served, person.email)
        token = await served.token_to(person.email, 2)
        chosen = [f"{NEW_PASSWORD} {number}" for number in range(8)]
        assert await wins([confirm(served, token, password) for password in chosen]) == 1
        with refused(StatusCode.INVALID_ARGUMENT, "MAIL_TOKEN_INVALID"):
            await confirm(served, token)

    async def test_repeated_with_the_same_key_it_says_yes_again(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        await request_reset(served, person.email)
        request = ConfirmPasswordResetRequest(
            token=await served.token_to(person.email, 2), new_password=NEW_PASSWORD
        )
        for _ in range(2):
            await served.auth.ConfirmPasswordReset(request, metadata=(("idempotency-key", "k"),))

    async def test_a_common_password_is_refused_and_the_token_stays_good(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        await request_reset(served, person.email)
        token = await served.token_to(person.email, 2)
        with refused(StatusCode.INVALID_ARGUMENT, "PASSWORD_TOO_COMMON"):
            await confirm(served, token, "password")
        await confirm(served, token)

    async def test_after_an_hour_it_is_too_late(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        await request_reset(served, person.email)
        token = await served.token_to(person.email, 2)
        is_reset = "WHERE purpose = 'RESET_PASSWORD'"
        left = f"SELECT extract(epoch FROM expire_time - now()) FROM users.mail_tokens {is_reset}"
        assert 3590 < await people.owner.fetchval(left) <= 3600
        await people.owner.execute(f"UPDATE users.mail_tokens SET expire_time = now() {is_reset}")
        with refused(StatusCode.INVALID_ARGUMENT, "MAIL_TOKEN_INVALID"):
            await confirm(served, token)

    async def test_an_owner_whom_strangers_have_locked_out_gets_back_in(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        for _ in range(10):
            with refused(StatusCode.UNAUTHENTICATED, "INVALID_CREDENTIALS"):
                await served.auth.Login(LoginRequest(email=person.email, password="wrong"))
        await request_reset(served, person.email)
        await confirm(served, await served.token_to(person.email, 2))
        assert (await person.sign_in(NEW_PASSWORD)).grant.access_token

    async def test_without_a_good_token_nothing_is_hashed(
        self, people: People, served: Served
    ) -> None:
        """Otherwise strangers could keep the two threads busy that hash."""
        method = "/shop.users.v1.AuthService/ConfirmPasswordReset"
        served.statements.clear()
        with refused(StatusCode.INVALID_ARGUMENT, "MAIL_TOKEN_INVALID"):
            await confirm(served, "00" * 32)
        assert served.statements[method] <= 2
