"""Roles, and shutting out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc import StatusCode

from services.kit.ids import uuid7
from shop.users.v1.users_pb2 import (
    DeleteUserRequest,
    ListUsersRequest,
    SetUserDisabledRequest,
    SetUserRoleRequest,
    User,
)
from tests.running import refusal_of, refused
from tests.users.people import People, Person, Served


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
