"""UserService: one method an RPC."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from google.protobuf.empty_pb2 import Empty

from services.kit import call, errors, ids, masks, pages
from services.kit.db import Database, Row, Transaction
from services.kit.etags import check_etag
from services.users import (
    attempt_store,
    erasure,
    messages,
    recovery,
    rules,
    session_store,
    store,
    tokens,
)
from services.users.access import whose
from services.users.address_handlers import Addresses
from services.users.passwords import Passwords
from shop.users.v1 import directory_pb2, directory_pb2_grpc, users_pb2

USER_FIELDS = ("email", "full_name", "phone")


class UserService(Addresses):
    """Accounts; the methods on addresses come from the class it is made of."""

    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._db = database
        self._passwords = passwords

    async def CreateUser(
        self, request: users_pb2.CreateUserRequest, context: Any
    ) -> users_pb2.User:
        self._passwords.check_uncommon("password", request.password)
        columns = {
            "email": request.email,
            "password_hash": await self._passwords.hash(request.password),
            "full_name": request.full_name,
            "phone": request.phone,
            "role": "CUSTOMER",
            "email_verified": False,
            "disabled": False,
        }
        async with self._db.transaction() as tx:
            user = await store.insert(tx, ids.uuid7(), columns)
            await recovery.mail_verification(tx, user)
            return tx.reply(
                messages.user(user), location=f"/api/users/{user['id']}/", subject=user["id"]
            )

    async def GetUser(self, request: users_pb2.GetUserRequest, context: Any) -> users_pb2.User:
        id = whose(request.id)
        async with self._db.connection() as connection:
            return messages.user(await store.get(connection, id))

    async def ListUsers(
        self, request: users_pb2.ListUsersRequest, context: Any
    ) -> users_pb2.ListUsersResponse:
        start = pages.start(request, str)
        async with self._db.connection() as connection:
            rows = await store.page(
                connection,
                prefix=rules.email_key(request.email_prefix),
                role=users_pb2.User.Role.Name(request.role) if request.role else "",
                after=start[0] if start else "",
                most=pages.size(request) + 1,
            )
        page, token = pages.cut(request, rows, lambda row: [row["email_key"]])
        return users_pb2.ListUsersResponse(
            users=[messages.user(row) for row in page], next_page_token=token
        )

    async def UpdateUser(
        self, request: users_pb2.UpdateUserRequest, context: Any
    ) -> users_pb2.User:
        id = whose(request.id)
        changes = masks.changes(request, USER_FIELDS)
        rules.check_not_cleared(changes, "email")
        async with self._db.transaction() as tx:
            old = await store.lock(tx, id)
            rules.check_may_change(call.caller(), old)
            check_etag(request.etag, old)
            moved = rules.email_key(changes.get("email", old["email"])) != old["email_key"]
            if moved:
                changes["email_verified"] = False
            new = await store.update(tx, old, changes)
            if moved:
                await recovery.change_address(tx, old, new)
            return tx.reply(messages.user(new), subject=id)

    async def DeleteUser(self, request: users_pb2.DeleteUserRequest, context: Any) -> Empty:
        id = whose(request.id)
        async with self._db.transaction() as tx:
            user = await store.lock(tx, id)
            rules.check_may_change(call.caller(), user)
            check_etag(request.etag, user)
            await _keep_an_admin(tx, user)
            await erasure.erase(tx, user)
            return tx.reply(Empty())

    async def SetUserRole(
        self, request: users_pb2.SetUserRoleRequest, context: Any
    ) -> users_pb2.User:
        id = whose(request.id)
        role = users_pb2.User.Role.Name(request.role)
        async with self._db.transaction() as tx:
            user = await store.lock(tx, id)
            check_etag(request.etag, user)
            if role != "ADMIN":
                await _keep_an_admin(tx, user)
            user = await store.update(tx, user, {"role": role})
            return tx.reply(messages.user(user), subject=id)

    async def SetUserDisabled(
        self, request: users_pb2.SetUserDisabledRequest, context: Any
    ) -> users_pb2.User:
        id = whose(request.id)
        async with self._db.transaction() as tx:
            user = await store.lock(tx, id)
            check_etag(request.etag, user)
            if request.disabled:
                await _keep_an_admin(tx, user)
                await session_store.end_all(tx, id)
            user = await store.update(tx, user, {"disabled": request.disabled})
            return tx.reply(messages.user(user), subject=id)

    async def ChangePassword(self, request: users_pb2.ChangePasswordRequest, context: Any) -> Empty:
        caller = call.caller()
        id = whose(request.id)
        if id != caller.user_id or caller.session_id is None:
            raise errors.not_found("user", request.id)
        self._passwords.check_uncommon("new_password", request.new_password)
        async with self._db.connection() as connection:
            await attempt_store.spend(connection, rules.FAILED_PASSWORD_CHANGES, str(id))
            old = (await store.get(connection, id))["password_hash"]
        right = await self._passwords.verify(old, request.current_password)
        new = await self._passwords.hash(request.new_password) if right else ""
        # A repeated call finds its key here: its current password is no longer the right one.
        async with self._db.transaction() as tx:
            user = await store.lock(tx, id)
            if not right or user["password_hash"] != old:
                raise rules.password_incorrect()
            await attempt_store.forget(tx, [rules.FAILED_PASSWORD_CHANGES.subject(str(id))])
            await store.update(tx, user, {"password_hash": new})
            await session_store.end_others(tx, id, caller.session_id)
            return tx.reply(Empty())


async def _keep_an_admin(tx: Transaction, user: Row) -> None:
    """Raise FAILED_PRECONDITION (LAST_ADMIN) when nobody else could make administrators."""
    if rules.is_active_admin(user) and not await store.has_other_admin(tx, user["id"]):
        raise rules.last_admin()


# Tokens that were made before are good no longer, even by a clock that is behind.
CHANGED_WITHIN = tokens.ACCESS_LIFE + timedelta(minutes=1)
MOST_CHANGED = 1000


class DirectoryService(directory_pb2_grpc.DirectoryServiceServicer):
    """Users, as other services see them."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def BatchGetContacts(
        self, request: directory_pb2.BatchGetContactsRequest, context: Any
    ) -> directory_pb2.BatchGetContactsResponse:
        async with self._db.connection() as connection:
            rows = await store.contacts(connection, {UUID(id) for id in request.user_ids})
        return directory_pb2.BatchGetContactsResponse(
            contacts=[
                directory_pb2.Contact(user_id=str(row["id"]), email=row["email"]) for row in rows
            ]
        )

    async def GetChangedUsers(
        self, request: directory_pb2.GetChangedUsersRequest, context: Any
    ) -> directory_pb2.GetChangedUsersResponse:
        async with self._db.connection() as connection:
            ids = await store.changed(connection, CHANGED_WITHIN, MOST_CHANGED + 1)
        if len(ids) > MOST_CHANGED:
            return directory_pb2.GetChangedUsersResponse(too_many=True)
        return directory_pb2.GetChangedUsersResponse(user_ids=map(str, ids))
