"""Each method runs a fixed number of statements, however many rows there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from shop.users.v1 import users_pb2 as pb
from shop.users.v1.session_pb2 import GetSessionRequest
from tests import callers
from tests.users.people import NEW_PASSWORD, PASSWORD, POSTAL_ADDRESS, People, Person, Served

Call = Callable[[Served, People, Person], Awaitable[Message]]


async def update_address(served: Served, people: People, person: Person) -> Message:
    address = await person.add_address()
    request = pb.UpdateAddressRequest(user_id="me", id=address.id, phone="123456")
    return await served.users.UpdateAddress(request, metadata=person())


async def delete_address(served: Served, people: People, person: Person) -> Message:
    address = await person.add_address()
    request = pb.DeleteAddressRequest(user_id="me", id=address.id)
    return await served.users.DeleteAddress(request, metadata=person())


async def get_address(served: Served, people: People, person: Person) -> Message:
    address = await person.add_address()
    request = pb.GetAddressRequest(user_id="me", id=address.id)
    return await served.users.GetAddress(request, metadata=person())


async def set_role(served: Served, people: People, person: Person) -> Message:
    other = await people.sign_up()
    request = pb.SetUserRoleRequest(id=str(other.id), role=pb.User.STAFF)
    return await served.users.SetUserRole(request, metadata=person())


async def set_disabled(served: Served, people: People, person: Person) -> Message:
    other = await people.sign_up()
    request = pb.SetUserDisabledRequest(id=str(other.id), disabled=True)
    return await served.users.SetUserDisabled(request, metadata=person())


async def get_session(served: Served, people: People, person: Person) -> Message:
    id = await people.owner.fetchval("SELECT id FROM users.sessions WHERE user_id = $1", person.id)
    request = GetSessionRequest(id=str(id))
    return await served.sessions.GetSession(request, metadata=callers.service())


async def verify(served: Served, people: People, person: Person) -> Message:
    token = await served.token_to(person.email)
    return await served.auth.VerifyEmail(pb.VerifyEmailRequest(token=token))


async def confirm_reset(served: Served, people: People, person: Person) -> Message:
    await served.auth.RequestPasswordReset(pb.RequestPasswordResetRequest(email=person.email))
    token = await served.token_to(person.email, 2)
    request = pb.ConfirmPasswordResetRequest(token=token, new_password=NEW_PASSWORD)
    return await served.auth.ConfirmPasswordReset(request)


# The statements of each method, with the look-up of the session for those that check it.
EXPECTED: dict[str, tuple[int, Call]] = {
    "UserService/CreateUser": (
        3,
        lambda s, p, _: s.users.CreateUser(
            pb.CreateUserRequest(email=p.address(), password=PASSWORD)
        ),
    ),
    "UserService/GetUser": (
        1,
        lambda s, _, who: s.users.GetUser(pb.GetUserRequest(id="me"), metadata=who()),
    ),
    "UserService/ListUsers": (
        1,
        lambda s, _, who: s.users.ListUsers(pb.ListUsersRequest(page_size=1), metadata=who()),
    ),
    "UserService/UpdateUser": (
        2,
        lambda s, _, who: s.users.UpdateUser(
            pb.UpdateUserRequest(id="me", phone="12345"), metadata=who()
        ),
    ),
    "UserService/DeleteUser": (
        14,
        lambda s, _, who: s.users.DeleteUser(pb.DeleteUserRequest(id="me"), metadata=who()),
    ),
    "UserService/SetUserRole": (3, set_role),
    "UserService/SetUserDisabled": (4, set_disabled),
    "UserService/ChangePassword": (
        7,
        lambda s, _, who: s.users.ChangePassword(
            pb.ChangePasswordRequest(id="me", current_password=PASSWORD, new_password=NEW_PASSWORD),
            metadata=who(),
        ),
    ),
    "UserService/GetAddress": (1, get_address),
    "UserService/ListAddresses": (
        1,
        lambda s, _, who: s.users.ListAddresses(
            pb.ListAddressesRequest(user_id="me"), metadata=who()
        ),
    ),
    "UserService/CreateAddress": (
        3,
        lambda s, _, who: s.users.CreateAddress(
            pb.CreateAddressRequest(user_id="me", postal_address=POSTAL_ADDRESS), metadata=who()
        ),
    ),
    "UserService/UpdateAddress": (2, update_address),
    "UserService/DeleteAddress": (2, delete_address),
    "AuthService/Login": (
        5,
        lambda s, _, who: s.auth.Login(pb.LoginRequest(email=who.email, password=PASSWORD)),
    ),
    "AuthService/RefreshToken": (3, lambda s, _, who: who.refresh()),
    "AuthService/Logout": (
        1,
        lambda s, _, who: s.auth.Logout(pb.LogoutRequest(), metadata=who()),
    ),
    "AuthService/RequestPasswordReset": (
        1,
        lambda s, _, who: s.auth.RequestPasswordReset(
            pb.RequestPasswordResetRequest(email=who.email)
        ),
    ),
    "AuthService/ConfirmPasswordReset": (7, confirm_reset),
    "AuthService/VerifyEmail": (4, verify),
    "AuthService/GetJwks": (0, lambda s, _, who: s.auth.GetJwks(pb.GetJwksRequest())),
    "SessionService/GetSession": (1, get_session),
}


@pytest.mark.parametrize("method", EXPECTED)
async def test_the_number_of_statements_is_fixed(
    people: People, served: Served, method: str
) -> None:
    expected, call = EXPECTED[method]
    crowd = [await people.sign_up("ADMIN") for _ in range(3)]
    for _ in range(3):
        await crowd[0].add_address()
    for person in crowd[:2]:
        served.statements.clear()
        assert isinstance(await call(served, people, person), Message | Empty)
        assert served.statements[f"/shop.users.v1.{method}"] == expected


def test_every_method_is_counted(served: Served) -> None:
    stubs: list[Any] = [served.users, served.auth, served.sessions]
    names = {
        f"{type(stub).__name__.removesuffix('Stub')}/{name}"
        for stub in stubs
        for name in vars(stub)
    }
    assert names == set(EXPECTED)
