"""People who use a running shop over REST, and what else tests want to know of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import httpx

from cli.topology import ALL_SERVICES
from services.kit.ids import uuid7
from tests.shop import Ready, ShopUp

PASSWORD = "correct horse battery staple"


class Visitor:
    """Calls the API over REST: as nobody, or with an access token."""

    def __init__(self, http: httpx.AsyncClient, token: str = "") -> None:
        self.http = http
        self.token = token

    async def call(
        self,
        verb: str,
        path: str | bytes,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: Any = None,
    ) -> httpx.Response:
        """A call with `body` as JSON, or `content` as it is. A path of bytes goes out untouched."""
        signed = {"authorization": f"Bearer {self.token}"} if self.token else {}
        url = httpx.URL(path) if isinstance(path, str) else self._raw(path)
        return await self.http.request(
            verb,
            url,
            json=body,
            params=query,
            headers=signed | dict(headers or {}),
            content=content,
        )

    def _raw(self, path: bytes) -> httpx.URL:
        base = self.http.base_url
        return httpx.URL(scheme=base.scheme, host=base.host, port=base.port, raw_path=path)

    async def get(self, path: str, **query: Any) -> httpx.Response:
        """GET, with a query."""
        return await self.call("GET", path, query=query)

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """POST; `idempotency_key` and other headers by name."""
        return await self.call("POST", path, body, headers=_headers(headers))

    async def put(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """PUT."""
        return await self.call("PUT", path, body, headers=_headers(headers))

    async def delete(self, path: str, **query: Any) -> httpx.Response:
        """DELETE, with a query."""
        return await self.call("DELETE", path, query=query)


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in given.items()}


class Person(Visitor):
    """Somebody who has signed up, and in."""

    def __init__(
        self, http: httpx.AsyncClient, email: str, password: str, grant: dict[str, Any]
    ) -> None:
        super().__init__(http, grant["access_token"])
        self.since = time.monotonic()
        self.email = email
        self.password = password
        self.refresh_token: str = grant["refresh_token"]
        self.id: str = grant["user"]["id"]

    @classmethod
    async def signed_in(cls, http: httpx.AsyncClient, email: str, password: str) -> Person:
        """Somebody with a new session."""
        answer = await Visitor(http).post(
            "/api/auth/login/", {"email": email, "password": password}
        )
        return cls(http, email, password, answered(answer))

    async def again(self) -> Person:
        """The same person with another session, and the role that they have now."""
        return await Person.signed_in(self.http, self.email, self.password)


def answered(answer: httpx.Response, status: int = 200) -> dict[str, Any]:
    """The body of an answer that has to have this status."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    body: dict[str, Any] = answer.json()
    return body


@dataclass
class Shop:
    """A running shop, and ways into it."""

    up: ShopUp
    ready: Ready
    http: httpx.AsyncClient
    channel: grpc.aio.Channel
    database: asyncpg.Connection
    people: dict[str, Person] = field(default_factory=dict)

    @property
    def nobody(self) -> Visitor:
        """Somebody who is not signed in."""
        return Visitor(self.http)

    @property
    def admin(self) -> Person:
        """The administrator."""
        return self.people["ADMIN"]

    @property
    def staff(self) -> Person:
        """Somebody of the staff."""
        return self.people["STAFF"]

    async def renew(self) -> None:
        """Sign administrator and staff in again, before their tokens expire after ten minutes."""
        for role, person in self.people.items():
            if time.monotonic() - person.since > 300:
                self.people[role] = await person.again()

    async def sign_up(self, role: str = "CUSTOMER") -> Person:
        """Somebody new with this role, who has signed in."""
        body = {"email": new_address(), "password": PASSWORD, "full_name": "Ada Lovelace"}
        user = answered(await self.nobody.post("/api/users/", body), 201)
        if role != "CUSTOMER":
            answered(await self.admin.put(f"/api/users/{user['id']}/role/", {"role": role}))
        return await Person.signed_in(self.http, body["email"], PASSWORD)

    async def new_product(self, **fields: Any) -> dict[str, Any]:
        """A product that staff has just added, as staff sees it."""
        body = {"name": "A lamp", "price": euros(20), "stock": 5} | fields
        return answered(await self.staff.post("/api/products/", body), 201)

    async def mails(self, address: str, subject: str) -> list[EmailMessage]:
        """The mails to an address about something, as soon as there are some; oldest first."""
        async with asyncio.timeout(60):
            while True:
                paths = sorted(Path(self.ready.mailbox).glob("*.eml"))
                mails = [
                    message_from_bytes(path.read_bytes(), policy=policy.default) for path in paths
                ]
                found = [m for m in mails if m["To"] == address and subject in m["Subject"]]
                if found:
                    return found
                await asyncio.sleep(0.02)

    async def mailed_token(self, address: str, subject: str) -> str:
        """The token in the last mail to an address about something."""
        mails = await self.mails(address, subject)
        (token,) = re.findall(r"^[0-9a-f]{64}$", mails[-1].get_content(), re.MULTILINE)
        return str(token)

    async def rows(self) -> dict[str, asyncpg.Record]:
        """How many rows each table has, and a digest of all that is in them."""
        await self._settled()
        tables = await self.database.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
            # How far the payment service has read at Stripe moves on by itself.
            " WHERE schemaname = ANY($1) AND tablename <> 'walks'",
            list(ALL_SERVICES),
        )
        found = {}
        for name in sorted(row["name"] for row in tables):
            (found[name],) = await self.database.fetch(
                # When the reconciler looks at a payment again moves on by itself, too.
                "SELECT count(*), md5(string_agg(row, ' ' ORDER BY row)) FROM (SELECT"
                f" (to_jsonb(t) - '{{check_time,checks}}'::text[])::text AS row FROM {name} t)"
            )
        return found

    async def _settled(self) -> None:
        """Wait until what has to be done later has been done."""
        async with asyncio.timeout(60):
            while await self.database.fetchval(
                'SELECT EXISTS (SELECT FROM users.outbox UNION ALL SELECT FROM "order".outbox'
                " UNION ALL SELECT FROM payment.outbox)"
            ):
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def visiting(up: ShopUp) -> AsyncIterator[Shop]:
    """A shop once it is open; its demo administrator and staff, if it has a demo."""
    ready = await up.ready()
    async with (
        httpx.AsyncClient(
            base_url=ready.edge, timeout=15, limits=httpx.Limits(max_connections=None)
        ) as http,
        grpc.aio.insecure_channel(ready.edge.removeprefix("http://")) as channel,
    ):
        database = await asyncpg.connect(ready.database_url)
        try:
            shop = Shop(up, ready, http, channel, database)
            if ready.admin is not None:
                await open_doors(shop, **ready.admin)
            yield shop
        finally:
            await database.close()


async def open_doors(shop: Shop, email: str, password: str) -> None:
    """Sign the administrator in, who makes somebody staff."""
    shop.people["ADMIN"] = await Person.signed_in(shop.http, email, password)
    shop.people["STAFF"] = await shop.sign_up("STAFF")


def new_address() -> str:
    """An e-mail address that nobody has."""
    return f"{uuid7().hex}@example.com"


def euros(units: int, cents: int = 0) -> dict[str, Any]:
    """An amount as REST has it (google.type.Money; 64-bit numbers are strings)."""
    return {"currency_code": "EUR", "units": str(units), "nanos": cents * 10_000_000}
