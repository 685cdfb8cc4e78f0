"""Where customers are reached: their tokens tell, unless they have changed since."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from uuid import UUID

from services.kit import call, errors
from services.kit.batches import Batch
from shop.errors.v1 import reason_pb2
from shop.users.v1 import directory_pb2, directory_pb2_grpc

# For so long it is not asked again who has changed.
FRESH_SECONDS = 1.0


class Contacts:
    """What the users service tells of customers, asked for as seldom as possible."""

    def __init__(self, directory: directory_pb2_grpc.DirectoryServiceStub) -> None:
        self._directory = directory
        self._emails: Batch[UUID, str] = Batch(self._fetch_emails)
        self._news: Batch[None, None] = Batch(self._fetch_changed)
        self._fresh_until = float("-inf")
        self._changed: Collection[str] | None = None

    async def email(self) -> str:
        """Where the caller is reached. Raises SESSION_ENDED: they are deleted or disabled.

        What was changed a second ago is known.
        """
        caller = call.caller()
        if caller.email and not await self._has_changed(call.user_id()):
            return caller.email
        email = await self._emails.get(call.user_id())
        if email is None:
            raise errors.unauthenticated(
                reason_pb2.REASON_SESSION_ENDED, "The user is no more: sign in again."
            )
        return email

    async def _has_changed(self, user_id: UUID) -> bool:
        """Whether the user may be another than their token tells."""
        if time.monotonic() >= self._fresh_until:
            await self._news.get(None)
        return self._changed is None or str(user_id) in self._changed

    async def _fetch_changed(self, _: Sequence[None]) -> dict[None, None]:
        asked = time.monotonic()
        answer = await self._directory.GetChangedUsers(directory_pb2.GetChangedUsersRequest())
        self._changed = None if answer.too_many else frozenset(answer.user_ids)
        self._fresh_until = asked + FRESH_SECONDS
        return {}

    async def _fetch_emails(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        request = directory_pb2.BatchGetContactsRequest(user_ids=[str(id) for id in ids])
        answer = await self._directory.BatchGetContacts(request)
        return {UUID(contact.user_id): contact.email for contact in answer.contacts}
