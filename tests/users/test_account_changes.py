"""What users, and staff for them, change of an account."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from shop.users.v1.users_pb2 import (
    GetUserRequest,
    RequestPasswordResetRequest,
    UpdateUserRequest,
    User,
    VerifyEmailRequest,
)
from tests.running import refused
from tests.users.people import People, Served


class TestUpdateUser:
    async def test_without_a_mask_what_is_sent_changes(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up(full_name="Ada", phone="12345")
        user = await served.users.UpdateUser(
            UpdateUserRequest(id="me", full_name="Ada Lovelace"), metadata=person()
        )
        assert (user.full_name, user.phone) == ("Ada Lovelace", "12345")
        assert user.etag != person.grant.user.etag

    async def test_with_a_mask_what_it_names_changes(self, people: People, served: Served) -> None:
        person = await people.sign_up(full_name="Ada", phone="12345")
        user = await served.users.UpdateUser(
            UpdateUserRequest(id="me", full_name="unseen", update_mask=FieldMask(paths=["phone"])),
            metadata=person(),
        )
        assert (user.full_name, user.phone) == ("Ada", "")

    async def test_a_star_replaces_everything_that_can_be_set(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up(full_name="Ada", phone="12345")
        user = await served.users.UpdateUser(
            UpdateUserRequest(id="me", email=person.email, update_mask=FieldMask(paths=["*"])),
            metadata=person(),
        )
        assert (user.email, user.full_name, user.phone) == (person.email, "", "")

    async def test_the_address_cannot_be_cleared(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as held:
            await served.users.UpdateUser(
                UpdateUserRequest(id="me", update_mask=FieldMask(paths=["email"])),
                metadata=person(),
            )
        assert list(held[0].fields) == ["email"]

    @pytest.mark.parametrize("path", ["role", "email_verified", "password", "id", "email.x"])
    async def test_a_mask_that_names_anything_else_is_refused(
        self, people: People, served: Served, path: str
    ) -> None:
        person = await people.sign_up()
        with refused(StatusCode.INVALID_ARGUMENT, "UNKNOWN_FIELD_IN_MASK"):
            await served.users.UpdateUser(
                UpdateUserRequest(id="me", update_mask=FieldMask(paths=[path])),
                metadata=person(),
            )

    async def test_a_stale_etag_aborts_and_changes_nothing(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up(full_name="Ada")
        first = UpdateUserRequest(id="me", full_name="one", etag=person.grant.user.etag)
        fresh = await served.users.UpdateUser(first, metadata=person())
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH") as held:
            await served.users.UpdateUser(first, metadata=person())
        assert held[0].metadata == {"etag": fresh.etag}
        assert await served.users.GetUser(GetUserRequest(id="me"), metadata=person()) == fresh

    async def test_a_new_address_is_verified_again_and_the_old_one_is_told(
        self, people: People, served: Served
    ) -> None:
        person, address = await people.sign_up(), people.address()
        token = await served.token_to(person.email)
        await served.auth.VerifyEmail(VerifyEmailRequest(token=token))
        user = await served.users.UpdateUser(
            UpdateUserRequest(id="me", email=address), metadata=person()
        )
        assert (user.email, user.email_verified) == (address, False)
        await served.auth.VerifyEmail(VerifyEmailRequest(token=await served.token_to(address)))
        user = await served.users.GetUser(GetUserRequest(id="me"), metadata=person())
        assert user.email_verified
        told = (await served.mails_to(person.email, 2))[-1]
        assert told["Subject"] == "Your e-mail address was changed"
        assert address not in told.as_string()

    async def test_a_new_address_makes_what_was_mailed_to_the_old_one_worthless(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        token = await served.token_to(person.email)
        await served.auth.RequestPasswordReset(RequestPasswordResetRequest(email=person.email))
        await served.mails_to(person.email, 2)
        await served.users.UpdateUser(
            UpdateUserRequest(id="me", email=people.address()), metadata=person()
        )
        with refused(StatusCode.INVALID_ARGUMENT, "MAIL_TOKEN_INVALID"):
            await served.auth.VerifyEmail(VerifyEmailRequest(token=token))
        left = await people.owner.fetch("SELECT purpose FROM users.mail_tokens")
        assert [row["purpose"] for row in left] == ["VERIFY_EMAIL"]

    async def test_other_letters_of_the_same_address_stay_verified(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        token = await served.token_to(person.email)
        await served.auth.VerifyEmail(VerifyEmailRequest(token=token))
        user = await served.users.UpdateUser(
            UpdateUserRequest(id="me", email=person.email.upper()), metadata=person()
        )
        assert (user.email, user.email_verified) == (person.email.upper(), True)

    async def test_the_address_of_another_user_is_taken(
        self, people: People, served: Served
    ) -> None:
        person, other = await people.sign_up(), await people.sign_up()
        with refused(StatusCode.ALREADY_EXISTS, "EMAIL_TAKEN"):
            await served.users.UpdateUser(
                UpdateUserRequest(id="me", email=other.email), metadata=person()
            )

    async def test_somebody_else_is_not_found(self, people: People, served: Served) -> None:
        person, stranger = await people.sign_up(), await people.sign_up()
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await served.users.UpdateUser(
                UpdateUserRequest(id=str(person.id), full_name="Eve"), metadata=stranger()
            )

    async def test_staff_change_customers_but_not_each_other(
        self, people: People, served: Served
    ) -> None:
        staff, admin = await people.sign_up("STAFF"), await people.sign_up("ADMIN")
        customer = await people.sign_up()
        request = UpdateUserRequest(id=str(customer.id), full_name="Ada")
        user = await served.users.UpdateUser(request, metadata=staff())
        assert user.full_name == "Ada"
        with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"):
            await served.users.UpdateUser(
                UpdateUserRequest(id=str(admin.id), email=people.address()), metadata=staff()
            )

    async def test_of_two_changes_from_one_etag_one_wins(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        answers = await asyncio.gather(
            *(
                served.users.UpdateUser(
                    UpdateUserRequest(id="me", full_name=name, etag=person.grant.user.etag),
                    metadata=person(),
                )
                for name in ("one", "two")
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, User) for answer in answers) == 1
