"""Administrators and access tokens, made past the service but with its own functions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from cli.database import connect
from cli.programs import StartError
from services.kit import ids, logs, validation
from services.kit.errors import ServiceError
from services.kit.settings import SettingsError
from services.users import rules, session_store, store, tokens
from services.users.passwords import Passwords
from services.users.signing import SigningKeys
from shop.users.v1 import users_pb2


async def find_user(url: str, email: str) -> asyncpg.Record | None:
    """The user with this e-mail address."""
    async with _users(url) as connection:
        return await store.find(connection, rules.email_key(email))


async def create_admin(url: str, email: str, password: str) -> None:
    """A new user who is an administrator. Raises StartError for what the service would refuse."""
    request = users_pb2.CreateUserRequest(email=email, password=password)
    passwords = Passwords()
    try:
        async with _users(url) as connection:
            validation.check(request, request.SerializeToString())
            passwords.check_uncommon("password", password)
            columns = {
                "email": email,
                "password_hash": await passwords.hash(password),
                "full_name": "",
                "phone": "",
                "role": "ADMIN",
                "email_verified": True,
                "disabled": False,
            }
            await store.insert(connection, ids.uuid7(), columns)
    finally:
        passwords.close()


async def promote(url: str, email: str) -> None:
    """Make a user an administrator; the password stays. Raises StartError for nobody."""
    async with _users(url) as connection, connection.transaction():
        user = await store.find_and_lock(connection, rules.email_key(email))
        if user is None:
            raise StartError(f"There is no user {email}.")
        await store.update(connection, user, {"role": "ADMIN"})


async def access_token(url: str, email: str, keys: Path, issuer: str) -> str:
    """A new session's access token, as `Login` would grant it. Raises StartError."""
    logs.configure("shop", form="pretty", level="warning")
    async with _users(url) as connection, connection.transaction():
        user = await store.find(connection, rules.email_key(email))
        if user is None:
            raise StartError(f"There is no user {email}.")
        rules.check_not_disabled(user)
        family = tokens.new_family()
        digest = tokens.digest(tokens.refresh_token(family))
        session = await session_store.insert(
            connection, ids.uuid7(), user["id"], family, digest, tokens.ACCESS_LIFE
        )
        return SigningKeys(keys).sign(tokens.access_claims(user, session["id"], issuer))


@asynccontextmanager
async def _users(url: str) -> AsyncIterator[Any]:
    """A connection to the users' schema; what the service refuses becomes a StartError."""
    connection = await connect(url, application_name="shop")
    try:
        yield connection
    except ServiceError as error:
        what = [f"{field}: {text}" for field, text in error.violations] or [error.message]
        raise StartError("; ".join(what)) from None
    except SettingsError as error:
        raise StartError(str(error)) from None
    except asyncpg.UndefinedTableError:
        raise StartError("The database has no users yet: run `shop migrate` first.") from None
    finally:
        await connection.close()
