"""Wires the users service together and serves it: `python -m services.users`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from services.kit import clients, outbox, process, tasks
from services.kit.auth import AccessTokens, Authenticator, Keys, ServiceCredential
from services.kit.db import Database
from services.kit.delivery import MailSettings
from services.kit.server import Server
from services.kit.settings import SettingsError, setting
from services.users import cleanup, mail_store
from services.users.access import session_check
from services.users.auth_handlers import AuthService, SessionService
from services.users.follow_ups import FollowUps
from services.users.handlers import DirectoryService, UserService
from services.users.passwords import ITERATIONS, MEMORY_KIB, Passwords
from services.users.recovery import Postman
from services.users.signing import SigningKeys
from services.users.tables import metadata
from shop.cart.v1 import erasure_pb2_grpc as cart_pb2_grpc
from shop.order.v1 import erasure_pb2_grpc as order_pb2_grpc
from shop.payment.v1 import erasure_pb2_grpc as payment_pb2_grpc
from shop.users.v1 import directory_pb2_grpc, session_pb2_grpc, users_pb2_grpc

Stub = TypeVar("Stub")

KEYS_SECONDS = 5.0
CLEANUP_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Settings(MailSettings):
    """What the users service can be told, beside what every service can be."""

    service: Literal["users"] = "users"
    signing_keys: Path = setting(description="folder of EC P-256 private keys, *.pem")
    signing_delay_seconds: float = setting(
        600, ge=0, description="how long a new key is only published; Envoy keeps a copy for 300 s"
    )
    order_address: str = setting("", description="where orders are; empty: the shop has none")
    cart_address: str = setting("", description="where carts are; empty: the shop has none")
    payment_address: str = setting("", description="where payments are; empty: the shop has none")
    argon2_iterations: int = setting(
        ITERATIONS, ge=1, description="passes of Argon2id; in production no fewer than by default"
    )
    argon2_memory_kib: int = setting(
        MEMORY_KIB, ge=8, description="memory of Argon2id; in production no less than by default"
    )

    def passwords(self) -> Passwords:
        """How passwords are hashed. Raises SettingsError for too cheaply."""
        cost = (self.argon2_iterations, self.argon2_memory_kib)
        if self.env == "production" and (cost[0] < ITERATIONS or cost[1] < MEMORY_KIB):
            raise SettingsError("set SHOP_USERS_ARGON2_… no lower than by default in production")
        return Passwords(iterations=cost[0], memory_kib=cost[1])


def build(settings: Settings, database: Database) -> Server:
    """The service, ready to start. Raises SettingsError."""
    signing = SigningKeys(settings.signing_keys, delay_seconds=settings.signing_delay_seconds)
    passwords = settings.passwords()
    credential = ServiceCredential(settings.service, *settings.service_secrets())

    async def own_keys() -> dict[str, object]:
        return {"keys": signing.jwks()}

    keys = Keys(own_keys)
    auth = Authenticator(
        AccessTokens(keys, issuer=settings.issuer),
        credential,
        check_session=session_check(database),
    )
    users = Server.of(settings, auth, ready=database.ready)
    users.add(users_pb2_grpc.add_UserServiceServicer_to_server, UserService(database, passwords))
    users.add(
        users_pb2_grpc.add_AuthServiceServicer_to_server,
        AuthService(database, passwords, signing, issuer=settings.issuer),
    )
    users.add(session_pb2_grpc.add_SessionServiceServicer_to_server, SessionService(database))
    users.add(directory_pb2_grpc.add_DirectoryServiceServicer_to_server, DirectoryService(database))

    postman = Postman(database, settings.delivery(), settings.letterhead())
    mails = {mail_store.MAIL: postman.mail, mail_store.RESET_REQUEST: postman.reset_request}
    relay = outbox.Relay(
        database, mail_store.OUTBOX, mails | _follow_ups(settings, credential).topics()
    )

    async def reload_keys() -> None:
        signing.reload()
        await keys.refresh()

    users.background("outbox", relay.forever)
    users.background("keys", tasks.every(KEYS_SECONDS, reload_keys))
    users.background("cleanup", tasks.every(CLEANUP_SECONDS, partial(cleanup.clean, database)))
    users.background("old keys", tasks.every(CLEANUP_SECONDS, database.forget_old_keys))
    return users


def _follow_ups(settings: Settings, credential: ServiceCredential) -> FollowUps:
    def stub(address: str, make: Callable[[Any], Stub]) -> Stub | None:
        return make(clients.connect(address, credential)) if address else None

    return FollowUps(
        orders=stub(settings.order_address, order_pb2_grpc.ErasureServiceStub),
        carts=stub(settings.cart_address, cart_pb2_grpc.ErasureServiceStub),
        payments=stub(settings.payment_address, payment_pb2_grpc.ErasureServiceStub),
    )


if __name__ == "__main__":
    process.run(Settings, metadata, build)
