"""Addresses of users."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.postal_address_pb2 import PostalAddress
from grpc import StatusCode

from services.kit.ids import uuid7
from shop.users.v1.users_pb2 import (
    Address,
    CreateAddressRequest,
    DeleteAddressRequest,
    GetAddressRequest,
    ListAddressesRequest,
    UpdateAddressRequest,
)
from tests.running import refused
from tests.users.people import POSTAL_ADDRESS, People, Served


class TestCreateAddress:
    async def test_it_answers_the_address_as_it_was_given(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        call = served.users.CreateAddress(
            CreateAddressRequest(user_id="me", postal_address=POSTAL_ADDRESS, phone="123456"),
            metadata=person(),
        )
        address = await call
        assert address.postal_address == POSTAL_ADDRESS
        assert (address.user_id, address.phone) == (str(person.id), "123456")
        metadata = dict(await call.initial_metadata())
        assert metadata["location"] == f"/api/users/{person.id}/addresses/{address.id}/"

    @pytest.mark.parametrize(
        "wrong",
        [
            {"region_code": ""},
            {"region_code": "gb"},
            {"region_code": "GBR"},
            {"address_lines": []},
            {"address_lines": ["1", "2", "3", "4", "5", "6"]},
            {"address_lines": ["x" * 201]},
            {"address_lines": [""]},
            {"recipients": ["1", "2", "3", "4"]},
            {"locality": "x" * 101},
            {"postal_code": "x" * 36},
            {"organization": "x" * 201},
            {"revision": 1},
            {"locality": "nul\0"},
        ],
    )
    async def test_what_is_no_address_is_refused(
        self, people: People, wrong: dict[str, Any]
    ) -> None:
        person = await people.sign_up()
        fields = {"region_code": "GB", "address_lines": ["221b Baker Street"]} | wrong
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as held:
            await person.add_address(postal_address=PostalAddress(**fields))
        assert next(iter(held[0].fields)).startswith("postal_address")

    async def test_there_are_at_most_100_also_when_added_at_the_same_time(
        self, people: People
    ) -> None:
        person = await people.sign_up()
        await people.owner.execute(
            "INSERT INTO users.addresses (id, user_id, postal_address, phone)"
            " SELECT gen_random_uuid(), $1, '{}', '' FROM generate_series(1, 95)",
            person.id,
        )
        answers = await asyncio.gather(
            *(person.add_address() for _ in range(10)), return_exceptions=True
        )
        assert sum(isinstance(answer, Address) for answer in answers) == 5
        assert await people.owner.fetchval("SELECT count(*) FROM users.addresses") == 100
        with refused(StatusCode.FAILED_PRECONDITION, "LIMIT_REACHED") as held:
            await person.add_address()
        assert held[0].metadata == {"resource": "address", "limit": "100"}

    async def test_somebody_else_is_not_found(self, people: People) -> None:
        person, stranger = await people.sign_up(), await people.sign_up()
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await stranger.add_address(user_id=str(person.id))

    async def test_nobody_is_not_found(self, people: People) -> None:
        staff = await people.sign_up("STAFF")
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await staff.add_address(user_id=str(uuid7()))

    async def test_the_same_key_adds_one(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        request = CreateAddressRequest(user_id="me", postal_address=POSTAL_ADDRESS)
        first = await served.users.CreateAddress(request, metadata=person(key="k"))
        assert await served.users.CreateAddress(request, metadata=person(key="k")) == first
        assert await people.owner.fetchval("SELECT count(*) FROM users.addresses") == 1


class TestGetAddress:
    async def test_the_owner_and_staff_read_it(self, people: People, served: Served) -> None:
        person, staff = await people.sign_up(), await people.sign_up("STAFF")
        address = await person.add_address()
        request = GetAddressRequest(user_id=str(person.id), id=address.id)
        assert await served.users.GetAddress(request, metadata=person()) == address
        assert await served.users.GetAddress(request, metadata=staff()) == address

    async def test_it_is_not_found_below_another_user(self, people: People, served: Served) -> None:
        person, stranger = await people.sign_up(), await people.sign_up()
        address = await person.add_address()
        for user_id in ("me", str(person.id)):
            with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
                await served.users.GetAddress(
                    GetAddressRequest(user_id=user_id, id=address.id), metadata=stranger()
                )


class TestListAddresses:
    async def test_pages_hold_each_address_once_newest_first(
        self, people: People, served: Served
    ) -> None:
        person, other = await people.sign_up(), await people.sign_up()
        await other.add_address()
        added = [(await person.add_address()).id for _ in range(5)]
        seen: list[str] = []
        request = ListAddressesRequest(user_id="me", page_size=2)
        while True:
            page = await served.users.ListAddresses(request, metadata=person())
            seen += [address.id for address in page.addresses]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert seen == added[::-1]

    async def test_a_user_without_addresses_has_an_empty_list(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        page = await served.users.ListAddresses(
            ListAddressesRequest(user_id="me"), metadata=person()
        )
        assert (len(page.addresses), page.next_page_token) == (0, "")

    async def test_nobody_is_not_found(self, people: People, served: Served) -> None:
        staff = await people.sign_up("STAFF")
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await served.users.ListAddresses(
                ListAddressesRequest(user_id=str(uuid7())), metadata=staff()
            )

    async def test_somebody_else_is_not_found(self, people: People, served: Served) -> None:
        person, stranger = await people.sign_up(), await people.sign_up()
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await served.users.ListAddresses(
                ListAddressesRequest(user_id=str(person.id)), metadata=stranger()
            )

    @pytest.mark.parametrize("token", ["nonsense", "WyJ4Iiwibm8gaWQiXQ"])
    async def test_a_token_of_another_list_is_refused(
        self, people: People, served: Served, token: str
    ) -> None:
        person = await people.sign_up()
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"):
            await served.users.ListAddresses(
                ListAddressesRequest(user_id="me", page_token=token), metadata=person()
            )


class TestUpdateAddress:
    async def test_the_address_is_replaced_as_a_whole(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        address = await person.add_address(phone="123456")
        moved = PostalAddress(region_code="FR", address_lines=["1 rue de Rivoli"])
        changed = await served.users.UpdateAddress(
            UpdateAddressRequest(user_id="me", id=address.id, postal_address=moved),
            metadata=person(),
        )
        assert (changed.postal_address, changed.phone) == (moved, "123456")
        assert changed.etag != address.etag

    async def test_the_mask_says_what_changes(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        address = await person.add_address(phone="123456")
        changed = await served.users.UpdateAddress(
            UpdateAddressRequest(
                user_id="me", id=address.id, update_mask=FieldMask(paths=["phone"])
            ),
            metadata=person(),
        )
        assert (changed.postal_address, changed.phone) == (POSTAL_ADDRESS, "")

    @pytest.mark.parametrize("path", ["postal_address", "*"])
    async def test_the_address_cannot_be_cleared(
        self, people: People, served: Served, path: str
    ) -> None:
        person = await people.sign_up()
        address = await person.add_address()
        with refused(StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as held:
            await served.users.UpdateAddress(
                UpdateAddressRequest(
                    user_id="me", id=address.id, update_mask=FieldMask(paths=[path])
                ),
                metadata=person(),
            )
        assert list(held[0].fields) == ["postal_address"]

    @pytest.mark.parametrize("path", ["user_id", "postal_address.locality"])
    async def test_a_mask_that_names_anything_else_is_refused(
        self, people: People, served: Served, path: str
    ) -> None:
        person = await people.sign_up()
        address = await person.add_address()
        with refused(StatusCode.INVALID_ARGUMENT, "UNKNOWN_FIELD_IN_MASK"):
            await served.users.UpdateAddress(
                UpdateAddressRequest(
                    user_id="me", id=address.id, update_mask=FieldMask(paths=[path])
                ),
                metadata=person(),
            )

    async def test_a_stale_etag_aborts_and_changes_nothing(
        self, people: People, served: Served
    ) -> None:
        person = await people.sign_up()
        address = await person.add_address()
        request = UpdateAddressRequest(
            user_id="me", id=address.id, phone="123456", etag=address.etag
        )
        changed = await served.users.UpdateAddress(request, metadata=person())
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH") as held:
            await served.users.UpdateAddress(request, metadata=person())
        assert held[0].metadata == {"etag": changed.etag}

    async def test_somebody_elses_is_not_found(self, people: People, served: Served) -> None:
        person, stranger = await people.sign_up(), await people.sign_up()
        address = await person.add_address()
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await served.users.UpdateAddress(
                UpdateAddressRequest(user_id="me", id=address.id, phone="123456"),
                metadata=stranger(),
            )


class TestDeleteAddress:
    async def test_it_is_gone(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        address = await person.add_address()
        request = DeleteAddressRequest(user_id="me", id=address.id, etag=address.etag)
        await served.users.DeleteAddress(request, metadata=person())
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await served.users.DeleteAddress(request, metadata=person())

    async def test_a_stale_etag_aborts(self, people: People, served: Served) -> None:
        person = await people.sign_up()
        address = await person.add_address()
        with refused(StatusCode.ABORTED, "ETAG_MISMATCH"):
            await served.users.DeleteAddress(
                DeleteAddressRequest(user_id="me", id=address.id, etag="v0"), metadata=person()
            )

    async def test_somebody_elses_is_not_found(self, people: People, served: Served) -> None:
        person, stranger = await people.sign_up(), await people.sign_up()
        address = await person.add_address()
        with refused(StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            await served.users.DeleteAddress(
                DeleteAddressRequest(user_id=str(person.id), id=address.id), metadata=stranger()
            )
