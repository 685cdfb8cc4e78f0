"""People of tests: who sign up and in by the service's own methods."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import grpc
from google.type.postal_address_pb2 import PostalAddress

from services.kit.db import Database
from services.kit.ids import uuid7
from shop.users.v1 import session_pb2_grpc, users_pb2, users_pb2_grpc

# Who waits for a lock in this worker's database: locks of rows are known by the others they hold.
WAITING = """
    SELECT count(*) FROM pg_locks AS lacks WHERE NOT granted AND EXISTS (
        SELECT FROM pg_locks AS has JOIN pg_database AS d ON d.oid = has.database
        WHERE has.pid = lacks.pid AND d.datname = current_database()
    )
"""
PASSWORD = "correct horse battery staple"
NEW_PASSWORD = "an entirely different one"
POSTAL_ADDRESS = PostalAddress(
    region_code="GB",
    postal_code="NW1 6XE",
    locality="London",
    address_lines=["221b Baker Street", "2nd floor"],
    recipients=["S. Holmes"],
    organization="Consulting detectives",
    language_code="en",
)
Metadata = tuple[tuple[str, str], ...]
Answer = TypeVar("Answer")


@dataclass
class Served:
    """The served service, and what tests look at."""

    channel: grpc.aio.Channel
    database: Database
    mailbox: Path
    statements: Counter[str]

    def __post_init__(self) -> None:
        self.users = users_pb2_grpc.UserServiceStub(self.channel)
        self.auth = users_pb2_grpc.AuthServiceStub(self.channel)
        self.sessions = session_pb2_grpc.SessionServiceStub(self.channel)
        self._read: dict[Path, EmailMessage] = {}

    async def fail_to_sign_in(self, email: str, password: str = "wrong") -> grpc.aio.AioRpcError:
        """How it is refused."""
        try:
            await self.auth.Login(users_pb2.LoginRequest(email=email, password=password))
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError("it got in")

    async def mails_to(
        self, address: str, count: int = 1, *, seconds: float = 5.0
    ) -> list[EmailMessage]:
        """The mails to an address, oldest first, as soon as there are so many."""
        found: list[EmailMessage] = []
        for _ in range(int(seconds / 0.01)):
            found = [mail for mail in self._mails() if mail["To"] == address]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.01)
        raise AssertionError(f"{len(found)} of {count} mails to {address} came")

    async def token_to(self, address: str, count: int = 1) -> str:
        """The token in the last of so many mails to an address."""
        mails = await self.mails_to(address, count)
        (token,) = re.findall(r"^[0-9a-f]{64}$", mails[-1].get_content(), re.MULTILINE)
        return str(token)

    def _mails(self) -> list[EmailMessage]:
        for path in sorted(self.mailbox.glob("*.eml")):
            if path not in self._read:
                self._read[path] = message_from_bytes(path.read_bytes(), policy=policy.default)
        return list(self._read.values())


@dataclass
class Person:
    """Somebody who has signed up, and in."""

    served: Served
    email: str
    id: UUID
    grant: users_pb2.TokenGrant

    def __call__(self, *, key: str = "") -> Metadata:
        """The metadata of one call, with an idempotency key if one is given."""
        metadata = (("authorization", f"Bearer {self.grant.access_token}"),)
        return (*metadata, ("idempotency-key", key)) if key else metadata

    async def sign_in(self, password: str = PASSWORD) -> Person:
        """The same person with another session."""
        grant = await self.served.auth.Login(
            users_pb2.LoginRequest(email=self.email, password=password)
        )
        return Person(self.served, self.email, self.id, grant)

    async def add_address(self, **fields: Any) -> users_pb2.Address:
        """Add an address of their own, unless a field says otherwise."""
        request = {"user_id": "me", "postal_address": POSTAL_ADDRESS} | fields
        return await self.served.users.CreateAddress(
            users_pb2.CreateAddressRequest(**request), metadata=self()
        )

    async def refresh(self) -> users_pb2.TokenGrant:
        """Trade the refresh token."""
        request = users_pb2.RefreshTokenRequest(refresh_token=self.grant.refresh_token)
        return await self.served.auth.RefreshToken(request)


class People:
    """Makes users."""

    def __init__(self, served: Served, owner: asyncpg.Connection) -> None:
        self.served = served
        self.owner = owner

    @contextlib.asynccontextmanager
    async def held_up(self, call: Awaitable[Answer]) -> AsyncIterator[asyncio.Future[Answer]]:
        """Users locked while the block runs, and in it a call that already waits for that."""
        async with self.owner.transaction():
            await self.owner.execute("SELECT FROM users.users FOR UPDATE")
            waiting = asyncio.ensure_future(call)
            while not await self.owner.fetchval(WAITING):
                await asyncio.sleep(0.01)
            yield waiting

    def address(self) -> str:
        """An e-mail address that nobody has."""
        return f"{uuid7().hex}@example.com"

    async def sign_up(self, role: str = "CUSTOMER", **fields: Any) -> Person:
        """Somebody with this role, who has signed in."""
        fields = {"email": self.address(), "password": PASSWORD} | fields
        user = await self.served.users.CreateUser(users_pb2.CreateUserRequest(**fields))
        if role != "CUSTOMER":
            await self.owner.execute(
                "UPDATE users.users SET role = $1 WHERE id = $2", role, UUID(user.id)
            )
        person = Person(self.served, user.email, UUID(user.id), users_pb2.TokenGrant())
        return await person.sign_in(fields["password"])
