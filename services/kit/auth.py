"""Who calls: access tokens of users (ES256 JWT, RFC 9068 in spirit) and credentials of services.

Nothing in a token chooses how it is verified: the algorithm is fixed, and `kid` only selects among
the keys that the users service publishes; `jwk`, `jku` and `x5u` headers are not read (RFC 8725).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import jwt
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from services.kit import errors, failures, logs
from services.kit.call import Caller
from shop.errors.v1 import reason_pb2
from shop.options.v1 import access_pb2

log = logs.logger("auth")

AUDIENCE = "shop"
ALGORITHM = "ES256"
LONGEST_TOKEN = 4096
# Without any key nobody gets in, so they are asked for again soon.
FIRST_SECONDS = 0.25
CLAIMS = ["iss", "aud", "sub", "role", "sid", "iat", "exp", "jti"]
ROLES = {
    "CUSTOMER": access_pb2.ACCESS_CUSTOMER,
    "STAFF": access_pb2.ACCESS_STAFF,
    "ADMIN": access_pb2.ACCESS_ADMIN,
}

SERVICE_AUDIENCE = "shop-services"
SERVICE_ALGORITHM = "HS256"
SERVICE_HEADER = "x-shop-service-token"
SERVICE_TOKEN_SECONDS = 300

# `iat` is not compared with our clock: the maker's may be a moment ahead, and `exp` is what counts.

# What verifying rubbish can raise.
MALFORMED = (
    jwt.PyJWTError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)

FetchKeys = Callable[[], Awaitable[Mapping[str, Any] | Message]]


class Keys:
    """The public keys of access tokens by `kid`, as the users service publishes them."""

    def __init__(self, fetch: FetchKeys, *, least_seconds_between: float = 5.0) -> None:
        self._fetch = fetch
        self._least = least_seconds_between
        self._asked = float("-inf")
        self._asking = asyncio.Lock()
        self._keys: dict[str, Any] = {}
        self.generation = 0

    async def get(self, kid: str) -> Any | None:
        """The key named `kid`; an unknown one has the set fetched again, every few seconds.

        None when there is no such key. Raises UNAVAILABLE when no key has ever been had.
        """
        if kid not in self._keys:
            async with self._asking:
                least = self._least if self._keys else min(self._least, FIRST_SECONDS)
                if kid not in self._keys and time.monotonic() - self._asked >= least:
                    await self.refresh()
            if not self._keys:
                raise errors.unavailable("Access tokens cannot be verified at the moment.")
        return self._keys.get(kid)

    async def refresh(self) -> None:
        """Ask for the key set; keys that are gone are forgotten. A failure keeps what is known."""
        self._asked = time.monotonic()
        try:
            answer = await self._fetch()
            jwks = MessageToDict(answer) if isinstance(answer, Message) else dict(answer)
            keys = jwt.PyJWKSet.from_dict(jwks).keys
        except Exception as error:
            failures.report(log, "the token keys could not be fetched", error)
            return
        except asyncio.CancelledError:
            # The call that asked has gone away: the next one need not wait to ask again.
            self._asked = float("-inf")
            raise
        found = {key.key_id: key.key for key in keys if key.key_id is not None}
        if found != self._keys:
            self._keys = found
            self.generation += 1

    async def refresh_forever(self, seconds: float = 60.0) -> None:
        """Keep the set fresh; for a background task."""
        while True:
            await self.refresh()
            await asyncio.sleep(seconds if self._keys else 1.0)


class AccessTokens:
    """Verifies access tokens; one that was verified is known by its hash until it expires."""

    def __init__(self, keys: Keys, *, issuer: str, remembered: int = 10_000) -> None:
        self._keys = keys
        self._issuer = issuer
        self._remembered = remembered
        self._generation = keys.generation
        self._known: dict[bytes, tuple[Caller, float]] = {}

    async def verify(self, token: str) -> Caller:
        """Who `token` speaks for. Raises UNAUTHENTICATED: TOKEN_INVALID or TOKEN_EXPIRED."""
        if self._generation != self._keys.generation:
            self._known.clear()
            self._generation = self._keys.generation
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digest)
        if known is not None:
            caller, expires = known
            if time.time() < expires:
                return caller
            del self._known[digest]
            raise _expired()
        caller, expires = await self._verify(token)
        if len(self._known) >= self._remembered:
            del self._known[next(iter(self._known))]
        self._known[digest] = caller, expires
        return caller

    async def _verify(self, token: str) -> tuple[Caller, float]:
        if len(token) > LONGEST_TOKEN:
            raise _refused()
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = await self._keys.get(kid) if isinstance(kid, str) else None
            if key is None:
                raise _refused()
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=self._issuer,
                options={"require": CLAIMS, "strict_aud": True, "verify_iat": False},
            )
            caller = Caller(
                user_id=UUID(claims["sub"]),
                role=ROLES[claims["role"]],
                session_id=UUID(claims["sid"]),
                email=str(claims.get("email", "")),
            )
            return caller, float(claims["exp"])
        except jwt.ExpiredSignatureError:
            raise _expired() from None
        except MALFORMED:
            raise _refused() from None


def _refused() -> errors.ServiceError:
    return errors.unauthenticated(
        reason_pb2.REASON_TOKEN_INVALID, "The access token is not valid: sign in again."
    )


def _expired() -> errors.ServiceError:
    return errors.unauthenticated(
        reason_pb2.REASON_TOKEN_EXPIRED, "The access token has expired: refresh it."
    )


class ServiceCredential:
    """What services show each other: a short-lived HS256 JWT under the secret they all share.

    While it is replaced there are several: the first one signs, credentials of all are taken.
    """

    def __init__(self, service: str, *secrets: str) -> None:
        self._service = service
        self._secrets = secrets
        self._own: tuple[str, float] = ("", 0.0)
        self._known: dict[str, tuple[Caller, float]] = {}

    def token(self) -> str:
        """This service's credential, made anew while the last one still has half its life."""
        token, renew = self._own
        now = time.time()
        if now < renew:
            return token
        claims = {
            "iss": self._service,
            "aud": SERVICE_AUDIENCE,
            "iat": int(now),
            "exp": int(now) + SERVICE_TOKEN_SECONDS,
        }
        token = jwt.encode(claims, self._secrets[0], algorithm=SERVICE_ALGORITHM)
        self._own = token, now + SERVICE_TOKEN_SECONDS / 2
        return token

    def verify(self, token: str) -> Caller:
        """The service that shows `token`. Raises UNAUTHENTICATED (SERVICE_CREDENTIAL_INVALID)."""
        known = self._known.get(token)
        if known is not None and time.time() < known[1]:
            return known[0]
        for secret in self._secrets:
            with contextlib.suppress(*MALFORMED):
                claims = _service_claims(token, secret)
                break
        else:
            raise errors.unauthenticated(
                reason_pb2.REASON_SERVICE_CREDENTIAL_INVALID,
                "This method is for services of the shop, and the credential is not valid.",
            )
        caller = Caller(service=str(claims["iss"]))
        self._known = {key: value for key, value in self._known.items() if value[1] > time.time()}
        self._known[token] = caller, float(claims["exp"])
        return caller


def _service_claims(token: str, secret: str) -> dict[str, Any]:
    """What a credential says. Raises MALFORMED."""
    claims: dict[str, Any] = jwt.decode(
        token,
        secret,
        algorithms=[SERVICE_ALGORITHM],
        audience=SERVICE_AUDIENCE,
        options={
            "require": ["iss", "aud", "iat", "exp"],
            "strict_aud": True,
            "verify_iat": False,
        },
    )
    return claims


class Authenticator:
    """Turns a call's metadata into its caller."""

    def __init__(
        self,
        tokens: AccessTokens,
        credential: ServiceCredential,
        *,
        check_session: Callable[[Caller], Awaitable[Caller]] | None = None,
    ) -> None:
        """`check_session` answers the caller with the role they have now.

        It raises UNAUTHENTICATED (SESSION_ENDED) for a session that is over.
        """
        self._tokens = tokens
        self._credential = credential
        self.check_session = check_session

    async def user(self, authorization: str) -> Caller:
        """The user behind an `authorization` header (RFC 6750). Raises UNAUTHENTICATED."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise errors.unauthenticated(
                reason_pb2.REASON_TOKEN_INVALID, "Send `authorization: Bearer <access token>`."
            )
        return await self._tokens.verify(token.strip())

    def service(self, token: str) -> Caller:
        """The service behind an `x-shop-service-token` header. Raises UNAUTHENTICATED."""
        return self._credential.verify(token)
