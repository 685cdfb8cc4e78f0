"""Accounts: made, read and listed."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

from services.kit.ids import uuid7
from shop.users.v1.users_pb2 import (
    CreateUserRequest,
    GetUserRequest,
    ListUsersRequest,
    User,
)
from tests.running import refused
from tests.users.people import PASSWORD, People, Served


class TestCreateUser:
    async def test_a_new_user_is_an_unverified_customer(
        self, people: People, served: Served
    ) -> None:
        request = CreateUserRequest(
            email=people.address(), password=PASSWORD, full_name="Ada", phone="+44 20 7946 0000"
        )
        user = await served.users.CreateUser(request)
        assert (user.email, user.full_name, user.phone) == (
            request.email,
            "Ada",
            "+44 20 7946 0000",
        )
        assert user.role == User.CUSTOMER
        assert not user.email_verified
        assert not user.disabled
        assert user.etag
        assert user.create_time == user.update_time

    async def test_it_answers_201_and_where_the_user_is(
        self, people: People, served: Served
    ) -> None:
        call = served.users.CreateUser(CreateUserRequest(email=people.address(), password=PASSWORD))
        user = await call
        metadata = dict(await call.initial_metadata())
        assert metadata["x-http-code"] == "201"
        assert metadata["location"] == f"/api/users/{user.id}/"

    async def test_an_address_is_taken_whatever_the_case_of_its_letters(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        with refused(StatusCode.ALREADY_EXISTS, "EMAIL_TAKEN") as held:
            await served.users.CreateUser(
                CreateUserRequest(email=person.email.upper(), password=PASSWORD)
            )
        assert held[0].metadata == {"field": "email"}

    async def test_of_many_at_the_same_time_one_gets_the_address(
        self, people: People, served: Served
    ) -> None:
        request = CreateUserRequest(email=people.address(), password=PASSWORD)
        answers = await asyncio.gather(
            *(served.users.CreateUser(request) for _ in range(20)), return_exceptions=True
        )
        assert sum(isinstance(answer, User) for answer in answers) == 1
        assert await people.owner.fetchval("SELECT count(*) FROM users.users") == 1

    @pytest.mark.parametrize("password", ["password", "PassWord", "12345678", "QWERTYUIOP"])
    async def test_the_commonest_passwords_are_refused_in_any_case(
        self, people: People, served: Served, password: str
    ) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, "PASSWORD_TOO_COMMON") as held:
            await served.users.CreateUser(
                CreateUserRequest(email=people.address(), password=password)
            )
        assert list(held[0].fields) == ["password"]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("email", ""),
            ("email", "nobody"),
            ("email", "a b@example.com"),
            ("email", "x" * 250 + "@example.com"),
            ("password", "short"),
            ("password", "é" * 513),
            ("full_name", "x" * 201),
            ("phone", "call me"),
            ("full_name", "nul\0"),
        ],
    )
    async def test_malformed_fields_are_named(
        self, people: People, served: Served, field: str, value: str
    ) -> None:
        fields = {"email": people.address(), "password": PASSWORD} | {field: value}
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as held:
            await served.users.CreateUser(CreateUserRequest(**fields))
        assert list(held[0].fields) == [field]

    async def test_a_password_of_1_kb_is_fine(self, people: People, served: Served) -> None:
        person = await people.sign_up(password="ü" * 512)
        assert (await person.sign_in("ü" * 512)).grant.access_token

    async def test_the_same_key_makes_one_user_and_the_same_answer(
        self, people: People, served: Served
    ) -> None:
        request = CreateUserRequest(email=people.address(), password=PASSWORD)
        key = (("idempotency-key", "once"),)
        first, second = [
            await served.users.CreateUser(request, metadata=key),
            await served.users.CreateUser(request, metadata=key),
        ]
        assert first == second

    async def test_no_password_is_stored(self, people: People) -> None:
        await people.sign_up()
        stored = await people.owner.fetchval("SELECT password_hash FROM users.users")
        assert stored.startswith("$argon2id$v=19$")
        assert PASSWORD not in stored


class TestGetUser:
    async def test_me_is_the_caller(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        user = await served.users.GetUser(GetUserRequest(id="me"), metadata=person())
        assert user.id == str(person.id)

    async def test_somebody_else_is_not_found(self, people: People, served: Served) -> None:
        person, stranger = await people.sign_up(), await people.sign_up()
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND") as held:
            await served.users.GetUser(GetUserRequest(id=str(person.id)), metadata=stranger())
        assert held[0].metadata == {"resource": "user", "id": str(person.id)}

    async def test_staff_see_everybody(self, people: People, served: Served) -> None:
        person, staff = await people.sign_up(), await people.sign_up("STAFF")
        user = await served.users.GetUser(GetUserRequest(id=str(person.id)), metadata=staff())
        assert user.email == person.email

    async def test_an_id_may_be_spelled_in_capitals(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        request = GetUserRequest(id=str(person.id).upper())
        assert (await served.users.GetUser(request, metadata=person())).id == str(person.id)

    async def test_nobody_is_not_found(self, people: People, served: Served) -> None:
        staff = await people.sign_up("STAFF")
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await served.users.GetUser(GetUserRequest(id=str(uuid7())), metadata=staff())

    async def test_what_is_no_id_is_refused(self, people: People, served: Served) -> None:
        staff = await people.sign_up("STAFF")
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            await served.users.GetUser(GetUserRequest(id="me "), metadata=staff())


class TestListUsers:
    async def test_pages_hold_everybody_once_in_the_order_of_addresses(
        self, people: People, served: Served
    ) -> None:
        staff = await people.sign_up("STAFF", email="M@example.com")
        for name in ("a", "Z", "b", "y", "c"):
            await people.sign_up(email=f"{name}@example.com")
        seen: list[str] = []
        request = ListUsersRequest(page_size=2)
        while True:
            page = await served.users.ListUsers(request, metadata=staff())
            seen += [user.email for user in page.users]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert seen == [f"{name}@example.com" for name in ("a", "b", "c", "M", "y", "Z")]

    async def test_a_prefix_finds_addresses_in_any_case(
        self, people: People, served: Served
    ) -> None:
        staff = await people.sign_up("STAFF", email="zoe@example.com")
        for name in ("Anna", "ann%", "annette", "bob"):
            await people.sign_up(email=f"{name}@example.com")
        for prefix, names in [("ANN", ["ann%", "Anna", "annette"]), ("ann%", ["ann%"])]:
            answer = await served.users.ListUsers(
                ListUsersRequest(email_prefix=prefix), metadata=staff()
            )
            assert [user.email.partition("@")[0] for user in answer.users] == names

    async def test_a_role_finds_who_has_it(self, people: People, served: Served) -> None:
        staff = await people.sign_up("STAFF")
        admin = await people.sign_up("ADMIN")
        await people.sign_up()
        answer = await served.users.ListUsers(ListUsersRequest(role=User.ADMIN), metadata=staff())
        assert [user.id for user in answer.users] == [str(admin.id)]

    async def test_a_token_of_another_list_is_refused(self, people: People, served: Served) -> None:
        staff = await people.sign_up("STAFF")
        await people.sign_up()
        page = await served.users.ListUsers(ListUsersRequest(page_size=1), metadata=staff())
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"):
            await served.users.ListUsers(
                ListUsersRequest(page_token=page.next_page_token, role=User.STAFF),
                metadata=staff(),
            )

    @pytest.mark.parametrize("page_size", [-1, 1001])
    async def test_a_page_size_out_of_bounds_is_refused(
        self, people: People, served: Served, page_size: int
    ) -> None:
        staff = await people.sign_up("STAFF")
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            await served.users.ListUsers(ListUsersRequest(page_size=page_size), metadata=staff())

    async def test_customers_may_not(self, people: People, served: Served) -> None:
        customer = await people.sign_up()
        with refused(StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"):
            await served.users.ListUsers(ListUsersRequest(), metadata=customer())
