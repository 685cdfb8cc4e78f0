"""AuthService and SessionService: signing in, staying signed in, signing out."""

from __future__ import annotations

import hmac
from typing import Any
from uuid import UUID

from google.protobuf.empty_pb2 import Empty

from services.kit import call, ids
from services.kit.db import Database, Row, Transaction
from services.users import (
    attempt_store,
    mail_store,
    messages,
    recovery,
    rules,
    session_store,
    store,
    tokens,
)
from services.users.passwords import Passwords
from services.users.signing import SigningKeys
from shop.users.v1 import session_pb2, users_pb2


class AuthService:
    """Sessions of users, their tokens, and the ways back in."""

    def __init__(
        self, database: Database, passwords: Passwords, keys: SigningKeys, *, issuer: str
    ) -> None:
        self._db = database
        self._passwords = passwords
        self._keys = keys
        self._issuer = issuer

    async def Login(self, request: users_pb2.LoginRequest, context: Any) -> users_pb2.TokenGrant:
        self._passwords.check_room()  # a flood of logins costs the database nothing
        # An unknown address takes the same steps as a wrong password, and so the same time.
        key = rules.email_key(request.email)
        async with self._db.connection() as connection:
            await attempt_store.check(connection, rules.FAILED_LOGINS, key)
            found = await store.find(connection, key)
        stored = found["password_hash"] if found else None
        if not await self._passwords.verify(stored, request.password) or found is None:
            async with self._db.connection() as connection:
                await attempt_store.spend(connection, rules.FAILED_LOGINS, key)
            raise rules.invalid_credentials()
        async with self._db.transaction(keyed=False) as tx:
            user = await store.hold(tx, found["id"])
            if user is None or user["password_hash"] != stored:
                raise rules.invalid_credentials()
            await attempt_store.clear(tx, rules.FAILED_LOGINS, key)
            rules.check_not_disabled(user)
            return await self._begin_session(tx, user)

    async def RefreshToken(
        self, request: users_pb2.RefreshTokenRequest, context: Any
    ) -> users_pb2.TokenGrant:
        async with self._db.transaction(keyed=False) as tx:
            grant = await self._refresh(tx, request.refresh_token)
        if grant is None:  # raised here, because the end of the session has to be committed
            raise rules.refresh_token_reused()
        return grant

    async def Logout(self, request: users_pb2.LogoutRequest, context: Any) -> Empty:
        caller = call.caller()
        async with self._db.transaction() as tx:
            if request.all_sessions:
                await session_store.end_all(tx, call.user_id())
            elif caller.session_id is not None:
                await session_store.end(tx, caller.session_id)
            return tx.reply(Empty())

    async def RequestPasswordReset(
        self, request: users_pb2.RequestPasswordResetRequest, context: Any
    ) -> Empty:
        async with self._db.transaction() as tx:
            await recovery.request_reset(tx, request.email)
            return tx.reply(Empty())

    async def ConfirmPasswordReset(
        self, request: users_pb2.ConfirmPasswordResetRequest, context: Any
    ) -> Empty:
        self._passwords.check_uncommon("new_password", request.new_password)
        async with self._db.connection() as connection:
            good = await mail_store.whose(
                connection, mail_store.RESET_PASSWORD, tokens.digest(request.token)
            )
        # Nobody makes us hash without a good token.
        password_hash = await self._passwords.hash(request.new_password) if good else ""
        async with self._db.transaction() as tx:
            user = await recovery.redeem(tx, mail_store.RESET_PASSWORD, request.token)
            await store.update(tx, user, {"password_hash": password_hash, "email_verified": True})
            await session_store.end_all(tx, user["id"])
            await attempt_store.forget(tx, [rules.FAILED_LOGINS.subject(user["email_key"])])
            return tx.reply(Empty())

    async def VerifyEmail(self, request: users_pb2.VerifyEmailRequest, context: Any) -> Empty:
        async with self._db.transaction() as tx:
            user = await recovery.redeem(tx, mail_store.VERIFY_EMAIL, request.token)
            await store.update(tx, user, {"email_verified": True})
            return tx.reply(Empty())

    async def GetJwks(
        self, request: users_pb2.GetJwksRequest, context: Any
    ) -> users_pb2.JsonWebKeySet:
        return messages.key_set(self._keys.jwks())

    async def _begin_session(self, tx: Transaction, user: Row) -> users_pb2.TokenGrant:
        family = tokens.new_family()
        token = tokens.refresh_token(family)
        session = await session_store.insert(
            tx, ids.uuid7(), user["id"], family, tokens.digest(token), tokens.REFRESH_LIFE
        )
        return self._grant(token, session, user)

    async def _refresh(self, tx: Transaction, token: str) -> users_pb2.TokenGrant | None:
        """What a refresh token is traded for; None, and the end of the session, for a used one."""
        family = tokens.family_of(token)
        session = family and await session_store.lock_family(tx, family)
        if not session or family is None:
            raise rules.refresh_token_invalid()
        if not hmac.compare_digest(session["token_hash"], tokens.digest(token)):
            await session_store.end(tx, session["id"])
            return None
        user = await store.get(tx, session["user_id"])
        rules.check_not_disabled(user)
        successor = tokens.refresh_token(family)
        session = await session_store.rotate(
            tx, session["id"], tokens.digest(successor), tokens.REFRESH_LIFE
        )
        return self._grant(successor, session, user)

    def _grant(self, refresh_token: str, session: Row, user: Row) -> users_pb2.TokenGrant:
        claims = tokens.access_claims(user, session["id"], self._issuer)
        return messages.grant(self._keys.sign(claims), refresh_token, session, user)


class SessionService:
    """What other services ask about sessions."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def GetSession(
        self, request: session_pb2.GetSessionRequest, context: Any
    ) -> session_pb2.Session:
        async with self._db.connection() as connection:
            row = await session_store.live(connection, UUID(request.id))
        if row is None:
            raise rules.session_ended()
        return messages.session(row)
