"""Roles, shutting out, and erasure."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc import StatusCode

from services.kit.ids import uuid7
from services.users.tables import metadata
from shop.users.v1.users_pb2 import (
    CreateAddressRequest,
    CreateUserRequest,
    DeleteUserRequest,
    GetUserRequest,
    ListAddressesRequest,
    ListUsersRequest,
    LoginRequest,
    RequestPasswordResetRequest,
    SetUserDisabledRequest,
    SetUserRoleRequest,
    UpdateUserRequest,
    User,
)
from tests.running import refusal_of, refused
from tests.users.people import PASSWORD, People, Person, Served
from tests.users.test_addresses import POSTAL_ADDRESS


class TestSetUserRole:
    async def test_a_role_shows_at_once_in_the_user_and_with_the_next_refresh_in_the_token(
        self, people: People, served: Served
    ) -> None:
        admin, person = await people.sign_up("ADMIN"), await people.sign_up()
        user = await served.users.SetUserRole(
            SetUserRoleRequest(id=str(person.id), role=User.STAFF), metadata=admin()
        )
        assert user.role == User.STAFF
        with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"):
            await served.users.ListUsers(ListUsersRequest(), metadata=person())
        person.grant = await person.refresh()
        await served.users.ListUsers(ListUsersRequest(), metadata=person())

    async def test_who_is_no_longer_an_administrator_cannot_use_an_old_token_here(
        self, people: People, served: Served
    ) -> None:
        admin, former = await people.sign_up("ADMIN"), await people.sign_up("ADMIN")
        await served.users.SetUserRole(
            SetUserRoleRequest(id=str(former.id), role=User.STAFF), metadata=admin()
        )
        with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"):
            await served.users.SetUserRole(
                SetUserRoleRequest(id=str(former.id), role=User.ADMIN), metadata=former()
            )

    @pytest.mark.parametrize("role", ["CUSTOMER", "STAFF"])
    async def test_only_administrators_may(self, people: People, served: Served, role: str) -> None:
        person = await people.sign_up(role)
        with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED") as held:
            await served.users.SetUserRole(
                SetUserRoleRequest(id="me", role=User.ADMIN), metadata=person()
            )
        assert held[0].metadata == {"role": "ADMIN"}

    async def test_the_last_administrator_stays_one(self, people: People, served: Served) -> None:
        admin = await people.sign_up("ADMIN")
        with refused(StatusCode.FAILED_PRECONDITION, "LAST_ADMIN"):
            await served.users.SetUserRole(
                SetUserRoleRequest(id="me", role=User.STAFF), metadata=admin()
            )

    async def test_a_disabled_administrator_does_not_count(
        self, people: People, served: Served
    ) -> None:
        admin, disabled = await people.sign_up("ADMIN"), await people.sign_up("ADMIN")
        await served.users.SetUserDisabled(
            SetUserDisabledRequest(id=str(disabled.id), disabled=True), metadata=admin()
        )
        with refused(StatusCode.FAILED_PRECONDITION, "LAST_ADMIN"):
            await served.users.SetUserRole(
                SetUserRoleRequest(id="me", role=User.STAFF), metadata=admin()
            )

    async def test_a_stale_etag_aborts(self, people: People, served: Served) -> None:
        admin, person = await people.sign_up("ADMIN"), await people.sign_up()
        request = SetUserRoleRequest(
            id=str(person.id), role=User.STAFF, etag=person.grant.user.etag
        )
        await served.users.SetUserRole(request, metadata=admin())
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
            await served.users.SetUserRole(request, metadata=admin())

    async def test_nobody_is_not_found(self, people: People, served: Served) -> None:
        admin = await people.sign_up("ADMIN")
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await served.users.SetUserRole(
                SetUserRoleRequest(id=str(uuid7()), role=User.STAFF), metadata=admin()
            )

    @pytest.mark.parametrize("how", ["role", "disabled", "delete"])
    async def test_administrators_who_go_at_the_same_time_leave_one(
        self, people: People, served: Served, how: str
    ) -> None:
        admins = [await people.sign_up("ADMIN") for _ in range(6)]

        async def go(admin: Person) -> object:
            if how == "role":
                request = SetUserRoleRequest(id="me", role=User.CUSTOMER)
                return await served.users.SetUserRole(request, metadata=admin())
            if how == "disabled":
                disable = SetUserDisabledRequest(id="me", disabled=True)
                return await served.users.SetUserDisabled(disable, metadata=admin())
            return await served.users.DeleteUser(DeleteUserRequest(id="me"), metadata=admin())

        answers = await asyncio.gather(*map(go, admins), return_exceptions=True)
        refusals: list[Any] = [answer for answer in answers if isinstance(answer, Exception)]
        assert [refusal_of(refusal).reason for refusal in refusals] == ["LAST_ADMIN"]
        left = await people.owner.fetchval(
            "SELECT count(*) FROM users.users WHERE role = 'ADMIN' AND NOT disabled"
        )
        assert left == 1


class TestSetUserDisabled:
    async def test_who_is_disabled_is_out_at_once_and_cannot_come_back(
        self, people: People, served: Served
    ) -> None:
        admin, person = await people.sign_up("ADMIN"), await people.sign_up()
        request = SetUserDisabledRequest(id=str(person.id), disabled=True)
        assert (await served.users.SetUserDisabled(request, metadata=admin())).disabled
        with refused(StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
            await person.refresh()
        with refused(StatusCode.UNAUTHENTICATED, "SESSION_ENDED"):
            await served.users.DeleteUser(DeleteUserRequest(id="me"), metadata=person())
        with refused(StatusCode.PERMISSION_DENIED, "USER_DISABLED"):
            await person.sign_in()

    async def test_who_is_let_in_again_can_sign_in(self, people: People, served: Served) -> None:
        admin, person = await people.sign_up("ADMIN"), await people.sign_up()
        for disabled in (True, False):
            user = await served.users.SetUserDisabled(
                SetUserDisabledRequest(id=str(person.id), disabled=disabled), metadata=admin()
            )
        assert not user.disabled
        assert (await person.sign_in()).grant.access_token

    async def test_it_has_to_be_said_which(self, people: People, served: Served) -> None:
        admin = await people.sign_up("ADMIN")
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            await served.users.SetUserDisabled(SetUserDisabledRequest(id="me"), metadata=admin())

    async def test_the_last_administrator_cannot_be_disabled(
        self, people: People, served: Served
    ) -> None:
        admin = await people.sign_up("ADMIN")
        with refused(StatusCode.FAILED_PRECONDITION, "LAST_ADMIN"):
            await served.users.SetUserDisabled(
                SetUserDisabledRequest(id="me", disabled=True), metadata=admin()
            )

    async def test_only_administrators_may(self, people: People, served: Served) -> None:
        staff, person = await people.sign_up("STAFF"), await people.sign_up()
        with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"):
            await served.users.SetUserDisabled(
                SetUserDisabledRequest(id=str(person.id), disabled=True), metadata=staff()
            )

    async def test_a_stale_etag_aborts(self, people: People, served: Served) -> None:
        admin = await people.sign_up("ADMIN")
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
            await served.users.SetUserDisabled(
                SetUserDisabledRequest(id="me", disabled=False, etag="v0"), metadata=admin()
            )


class TestDeleteUser:
    async def test_who_is_deleted_is_gone_and_the_address_is_free(
        self, people: People, served: Served
    ) -> None:
        person, staff = await people.sign_up(), await people.sign_up("STAFF")
        await served.users.DeleteUser(DeleteUserRequest(id="me"), metadata=person())
        for metadata_of in (person, staff):
            with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
                await served.users.GetUser(
                    GetUserRequest(id=str(person.id)), metadata=metadata_of()
                )
        listed = await served.users.ListUsers(ListUsersRequest(), metadata=staff())
        assert [user.id for user in listed.users] == [str(staff.id)]
        again = await people.sign_up(email=person.email)
        assert again.id != person.id

    async def test_the_sessions_end_at_once(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        elsewhere = await person.sign_in()
        await served.users.DeleteUser(DeleteUserRequest(id="me"), metadata=person())
        with refused(StatusCode.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"):
            await elsewhere.refresh()
        with refused(StatusCode.UNAUTHENTICATED, "SESSION_ENDED"):
            await served.users.DeleteUser(DeleteUserRequest(id="me"), metadata=elsewhere())
        with refused(StatusCode.UNAUTHENTICATED, "INVALID_CREDENTIALS"):
            await person.sign_in()

    async def test_nothing_can_be_added_with_a_token_that_is_left(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        await served.users.DeleteUser(DeleteUserRequest(id="me"), metadata=person())
        for call in (
            served.users.CreateAddress(
                CreateAddressRequest(user_id="me", postal_address=POSTAL_ADDRESS),
                metadata=person(),
            ),
            served.users.UpdateUser(UpdateUserRequest(id="me", phone="12345"), metadata=person()),
            served.users.ListAddresses(ListAddressesRequest(user_id="me"), metadata=person()),
        ):
            with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
                await call

    async def test_nothing_personal_is_left_in_any_table(
        self, people: People, served: Served
    ) -> None:
        """Whatever the service was told, in any column of any row, also of what is still to do."""
        email, name, phone = people.address(), "Canary Bird", "555 0123 4567"
        request = CreateUserRequest(email=email, password=PASSWORD, full_name=name, phone=phone)
        await served.users.CreateUser(request, metadata=(("idempotency-key", "k"),))
        grant = await served.auth.Login(LoginRequest(email=email, password=PASSWORD))
        person = Person(served, email, uuid7(), grant)
        await served.users.CreateAddress(
            CreateAddressRequest(user_id="me", postal_address=POSTAL_ADDRESS, phone=phone),
            metadata=person(key="k"),
        )
        await served.users.UpdateUser(
            UpdateUserRequest(id="me", full_name=f"{name} II"), metadata=person(key="l")
        )
        admin = await people.sign_up("ADMIN")
        await served.users.SetUserRole(
            SetUserRoleRequest(id=grant.user.id, role=User.STAFF), metadata=admin(key="m")
        )
        with refused(StatusCode.UNAUTHENTICATED, "INVALID_CREDENTIALS"):
            await served.auth.Login(LoginRequest(email=email, password="wrong"))
        await served.mails_to(email)
        await self._still_to_be_mailed(people, grant.user.id, email)
        assert email in await self._everything(people)

        await served.users.DeleteUser(DeleteUserRequest(id="me"), metadata=person(key="n"))
        left = await self._everything(people)
        for canary in (email, email.upper(), "Canary", phone, "Baker Street", "argon2id"):
            assert canary not in left.replace(await self._of(people, admin), "")
        assert await people.owner.fetchval("SELECT count(*) FROM users.attempts") == 0
        assert await people.owner.fetchval("SELECT count(*) FROM users.outbox") == 0

    async def test_who_asks_for_a_reset_after_erasure_gets_none(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        await served.users.DeleteUser(DeleteUserRequest(id="me"), metadata=person())
        await served.auth.RequestPasswordReset(RequestPasswordResetRequest(email=person.email))
        while await people.owner.fetchval("SELECT count(*) FROM users.outbox"):
            await asyncio.sleep(0.01)
        assert await people.owner.fetchval("SELECT count(*) FROM users.mail_tokens") == 0

    async def test_a_stale_etag_aborts_and_erases_nothing(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
            await served.users.DeleteUser(DeleteUserRequest(id="me", etag="v0"), metadata=person())
        assert (await person.sign_in()).grant.access_token

    async def test_the_last_administrator_cannot_go(self, people: People, served: Served) -> None:
        admin = await people.sign_up("ADMIN")
        with refused(StatusCode.FAILED_PRECONDITION, "LAST_ADMIN"):
            await served.users.DeleteUser(DeleteUserRequest(id="me"), metadata=admin())

    async def test_somebody_else_is_not_found(self, people: People, served: Served) -> None:
        person, stranger = await people.sign_up(), await people.sign_up()
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await served.users.DeleteUser(DeleteUserRequest(id=str(person.id)), metadata=stranger())

    async def test_staff_delete_customers_but_not_each_other(
        self, people: People, served: Served
    ) -> None:
        staff, other = await people.sign_up("STAFF"), await people.sign_up("STAFF")
        customer = await people.sign_up()
        await served.users.DeleteUser(DeleteUserRequest(id=str(customer.id)), metadata=staff())
        with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"):
            await served.users.DeleteUser(DeleteUserRequest(id=str(other.id)), metadata=staff())

    async def _everything(self, people: People) -> str:
        """Every row of every table as text; bytes in hex, and read as text."""
        rows = []
        for table in metadata.sorted_tables:
            for row in await people.owner.fetch(f"SELECT t.* FROM {table} t"):
                rows += [
                    value.decode(errors="replace") if isinstance(value, bytes) else str(value)
                    for value in row.values()
                ]
        return "\n".join(rows)

    async def _of(self, people: People, admin: Person) -> str:
        """The administrator's own password hash, which stays."""
        stored: str = await people.owner.fetchval(
            "SELECT password_hash FROM users.users WHERE id = $1", admin.id
        )
        return stored

    async def _still_to_be_mailed(self, people: People, user_id: str, email: str) -> None:
        """Rows of the outbox that wait for a mail server which is down."""
        for payload in (f'{{"user_id": "{user_id}"}}', f'{{"email_key": "{email}"}}'):
            await people.owner.execute(
                "INSERT INTO users.outbox (id, topic, payload, next_attempt_time)"
                " VALUES ($1, 'mail', $2, now() + interval '1 hour')",
                uuid7(),
                payload.encode(),
            )
