"""The methods of UserService on addresses."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from google.protobuf.empty_pb2 import Empty

from services.kit import ids, masks, pages
from services.kit.db import Database
from services.kit.etags import check_etag
from services.users import address_store, messages, rules, store
from services.users.access import whose
from shop.users.v1 import users_pb2

ADDRESS_FIELDS = ("postal_address", "phone")


class Addresses:
    """The addresses of users. Orders keep the address they were made with, so changes are free."""

    _db: Database

    async def GetAddress(
        self, request: users_pb2.GetAddressRequest, context: Any
    ) -> users_pb2.Address:
        user_id = whose(request.user_id)
        async with self._db.connection() as connection:
            return messages.address(await address_store.get(connection, user_id, UUID(request.id)))

    async def ListAddresses(
        self, request: users_pb2.ListAddressesRequest, context: Any
    ) -> users_pb2.ListAddressesResponse:
        user_id = whose(request.user_id)
        start = pages.start(request, str)
        before = ids.parse(start[0], "address") if start else address_store.LAST
        async with self._db.connection() as connection:
            rows = await address_store.page(
                connection, user_id, before=before, most=pages.size(request) + 1
            )
        page, token = pages.cut(request, rows, lambda row: [str(row["id"])])
        return users_pb2.ListAddressesResponse(
            addresses=[messages.address(row) for row in page], next_page_token=token
        )

    async def CreateAddress(
        self, request: users_pb2.CreateAddressRequest, context: Any
    ) -> users_pb2.Address:
        user_id = whose(request.user_id)
        columns = {
            "postal_address": messages.postal_address_column(request.postal_address),
            "phone": request.phone,
        }
        async with self._db.transaction() as tx:
            await store.lock(tx, user_id)
            rules.check_room_for_address(await address_store.count(tx, user_id))
            row = await address_store.insert(tx, ids.uuid7(), user_id, columns)
            return tx.reply(
                messages.address(row),
                location=f"/api/users/{user_id}/addresses/{row['id']}/",
                subject=user_id,
            )

    async def UpdateAddress(
        self, request: users_pb2.UpdateAddressRequest, context: Any
    ) -> users_pb2.Address:
        user_id = whose(request.user_id)
        changes = masks.changes(request, ADDRESS_FIELDS)
        rules.check_not_cleared(changes, "postal_address")
        if "postal_address" in changes:
            changes["postal_address"] = messages.postal_address_column(changes["postal_address"])
        async with self._db.transaction() as tx:
            row = await address_store.lock(tx, user_id, UUID(request.id))
            check_etag(request.etag, row)
            row = await address_store.update(tx, row, changes)
            return tx.reply(messages.address(row), subject=user_id)

    async def DeleteAddress(self, request: users_pb2.DeleteAddressRequest, context: Any) -> Empty:
        user_id = whose(request.user_id)
        async with self._db.transaction() as tx:
            row = await address_store.lock(tx, user_id, UUID(request.id))
            check_etag(request.etag, row)
            await address_store.delete(tx, row["id"])
            return tx.reply(Empty())
