"""What other services ask of users."""

from __future__ import annotations

from grpc import StatusCode

from services.kit.ids import uuid7
from shop.users.v1 import users_pb2
from shop.users.v1.directory_pb2 import BatchGetContactsRequest
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


async def test_it_is_for_services(served: Served, people: People) -> None:
    admin = await people.sign_up("ADMIN")
    request = BatchGetContactsRequest(user_ids=[str(admin.id)])
    for metadata in ((), admin()):
        with refused(StatusCode.UNAUTHENTICATED, "SERVICE_CREDENTIAL_INVALID"):
            await DirectoryServiceStub(served.channel).BatchGetContacts(request, metadata=metadata)
