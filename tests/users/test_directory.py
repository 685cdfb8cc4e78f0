"""What other services ask of users."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
from grpc import StatusCode

from services.kit.ids import uuid7
from shop.users.v1 import users_pb2
from shop.users.v1.directory_pb2 import (
    BatchGetContactsRequest,
    GetChangedUsersRequest,
    GetChangedUsersResponse,
)
from shop.users.v1.directory_pb2_grpc import DirectoryServiceStub
from tests import callers
from tests.running import refused
from tests.users.people import People, Person, Served


async def contacts(served: Served, *ids: object) -> dict[str, str]:
    """E-mail addresses by id, as the order service is told them."""
    answer = await DirectoryServiceStub(served.channel).BatchGetContacts(
        BatchGetContactsRequest(user_ids=[str(id) for id in ids]), metadata=callers.service()
    )
    assert len(answer.contacts) == len({contact.user_id for contact in answer.contacts})
    return {contact.user_id: contact.email for contact in answer.contacts}


async def list_changed(served: Served) -> GetChangedUsersResponse:
    return await DirectoryServiceStub(served.channel).GetChangedUsers(
        GetChangedUsersRequest(), metadata=callers.service()
    )


async def test_it_tells_the_addresses_of_those_who_exist(served: Served, people: People) -> None:
    ada, bob = await people.sign_up(), await people.sign_up()
    found = await contacts(served, ada.id, uuid7(), bob.id, ada.id, str(bob.id).upper())
    assert found == {str(ada.id): ada.email, str(bob.id): bob.email}


async def test_who_is_deleted_or_disabled_is_left_out(served: Served, people: People) -> None:
    gone, stopped, there = [await people.sign_up() for _ in range(3)]
    admin = await people.sign_up("ADMIN")
    await served.users.DeleteUser(users_pb2.DeleteUserRequest(id="me"), metadata=gone())
    await served.users.SetUserDisabled(
        users_pb2.SetUserDisabledRequest(id=str(stopped.id), disabled=True), metadata=admin()
    )
    found = await contacts(served, gone.id, stopped.id, there.id)
    assert found == {str(there.id): there.email}


async def test_it_takes_one_statement_whatever_the_number(served: Served, people: People) -> None:
    crowd: list[Person] = [await people.sign_up() for _ in range(5)]
    for count in (1, 5):
        served.statements.clear()
        await contacts(served, *(person.id for person in crowd[:count]))
        assert sum(served.statements.values()) == 1


class TestGetChangedUsers:
    async def test_who_was_changed_disabled_or_deleted_may_have_an_old_token(
        self, served: Served, people: People
    ) -> None:
        changed, stopped, gone, there = [await people.sign_up() for _ in range(4)]
        admin = await people.sign_up("ADMIN")
        await served.users.UpdateUser(
            users_pb2.UpdateUserRequest(id="me", full_name="Ada"), metadata=changed()
        )
        await served.users.SetUserDisabled(
            users_pb2.SetUserDisabledRequest(id=str(stopped.id), disabled=True), metadata=admin()
        )
        await served.users.DeleteUser(users_pb2.DeleteUserRequest(id="me"), metadata=gone())
        listed = await list_changed(served)
        assert {str(user.id) for user in (changed, stopped, gone)} <= set(listed.user_ids)
        assert str(there.id) not in listed.user_ids

    async def test_those_of_longer_ago_are_forgotten(
        self, served: Served, people: People, owner_connection: asyncpg.Connection
    ) -> None:
        changed = await people.sign_up()
        for minutes, is_listed in ((10, True), (12, False)):
            await owner_connection.execute(
                "UPDATE users.users SET version = 2, update_time = now() - $2::interval"
                " WHERE id = $1",
                changed.id,
                timedelta(minutes=minutes),
            )
            assert (str(changed.id) in (await list_changed(served)).user_ids) is is_listed

    async def test_of_too_many_it_only_says_so(
        self, served: Served, people: People, owner_connection: asyncpg.Connection
    ) -> None:
        await owner_connection.execute(
            "INSERT INTO users.users (id, email, password_hash, full_name, phone, role, version)"
            " SELECT gen_random_uuid(), 'many' || n || '@example.com', '', '', '', 'CUSTOMER', 2"
            " FROM generate_series(1, 1001) n"
        )
        assert await list_changed(served) == GetChangedUsersResponse(too_many=True)


async def test_it_is_for_services(served: Served, people: People) -> None:
    admin = await people.sign_up("ADMIN")
    request = BatchGetContactsRequest(user_ids=[str(admin.id)])
    for metadata in ((), admin()):
        with refused(StatusCode.UNAUTHENTICATED, "SERVICE_CREDENTIAL_INVALID"):
            await DirectoryServiceStub(served.channel).BatchGetContacts(request, metadata=metadata)
