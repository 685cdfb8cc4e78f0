"""Deleting a user: nothing personal is left, and the id stays."""

from __future__ import annotations

import asyncio

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
    SetUserRoleRequest,
    UpdateUserRequest,
    User,
)
from tests.running import refused
from tests.users.people import PASSWORD, POSTAL_ADDRESS, People, Person, Served


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
        # What is told to other services, and then nothing.
        while await people.owner.fetchval("SELECT count(*) FROM users.outbox"):
            await asyncio.sleep(0.01)

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
