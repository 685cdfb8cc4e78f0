"""Wires the users service together and serves it: `python -m services.users`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from services.kit import outbox, process, tasks
from services.kit.auth import AccessTokens, Authenticator, Keys, ServiceCredential
from services.kit.db import Database
from services.kit.delivery import MailSettings
from services.kit.server import Server
from services.kit.settings import SettingsError
from services.users import cleanup, mail_store
from services.users.access import session_check
from services.users.auth_handlers import AuthService, SessionService
from services.users.handlers import UserService
from services.users.passwords import ITERATIONS, MEMORY_KIB, Passwords
from services.users.recovery import Postman
from services.users.signing import SigningKeys
from services.users.tables import metadata
from shop.users.v1 import session_pb2_grpc, users_pb2_grpc

KEYS_SECONDS = 5.0
CLEANUP_SECONDS = 60.0


class Settings(MailSettings):
    """What the users service can be told, beside what every service can be."""

    service: Literal["users"] = "users"
    signing_keys: Path = Field(description="folder of EC P-256 private keys, *.pem")
    signing_delay_seconds: float = Field(
        600, ge=0, description="how long a new key is only published; Envoy keeps a copy for 300 s"
    )
    argon2_iterations: int = Field(ITERATIONS, ge=1)
    argon2_memory_kib: int = Field(MEMORY_KIB, ge=8)

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

    async def own_keys() -> dict[str, object]:
        return {"keys": signing.jwks()}

    keys = Keys(own_keys)
    auth = Authenticator(
        AccessTokens(keys, issuer=settings.issuer),
        ServiceCredential(settings.service, settings.service_secret.get_secret_value()),
        check_session=session_check(database),
    )
    users = Server.of(settings, auth, ready=database.ready)
    users.add(users_pb2_grpc.add_UserServiceServicer_to_server, UserService(database, passwords))
    users.add(
        users_pb2_grpc.add_AuthServiceServicer_to_server,
        AuthService(database, passwords, signing, issuer=settings.issuer),
    )
    users.add(session_pb2_grpc.add_SessionServiceServicer_to_server, SessionService(database))

    postman = Postman(database, settings.delivery(), settings.letterhead())
    relay = outbox.Relay(
        database,
        mail_store.OUTBOX,
        {mail_store.MAIL: postman.mail, mail_store.RESET_REQUEST: postman.reset_request},
    )

    async def reload_keys() -> None:
        signing.reload()
        await keys.refresh()

    users.background("outbox", relay.forever)
    users.background("keys", tasks.every(KEYS_SECONDS, reload_keys))
    users.background("cleanup", tasks.every(CLEANUP_SECONDS, partial(cleanup.clean, database)))
    users.background("old keys", tasks.every(CLEANUP_SECONDS, database.forget_old_keys))
    return users


if __name__ == "__main__":
    process.run(Settings, metadata, build)
