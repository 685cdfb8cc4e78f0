"""The wiring of the catalogue: settings, objects, serve."""

from __future__ import annotations

from typing import Any, Literal

from google.protobuf.json_format import MessageToDict
from pydantic import Field

from services.catalog import sweeper
from services.catalog.handlers import CatalogService
from services.catalog.stock_handlers import StockService
from services.catalog.tables import metadata
from services.kit import auth, clients, interceptors, server, tasks
from services.kit.db import Database
from services.kit.settings import ServiceSettings
from shop.catalog.v1 import catalog_pb2_grpc, stock_pb2_grpc
from shop.users.v1 import users_pb2, users_pb2_grpc

# How often idempotency keys that are too old are removed.
KEYS_SECONDS = 600.0


class Settings(ServiceSettings):
    """Settings of the catalogue."""

    service: Literal["catalog"] = "catalog"
    users_address: str = Field(description="where the users service is: host:port, or several")


async def main() -> None:
    """Serve until SIGTERM."""
    settings = Settings.load()
    server.start_process(settings)
    secret = settings.service_secret.get_secret_value()
    credential = auth.ServiceCredential(settings.service, secret)
    users = users_pb2_grpc.AuthServiceStub(
        clients.connect(
            settings.users_address, credential, idempotent=["shop.users.v1.AuthService/GetJwks"]
        )
    )

    async def published_keys() -> dict[str, Any]:
        return MessageToDict(await users.GetJwks(users_pb2.GetJwksRequest()))

    keys = auth.Keys(published_keys)
    tokens = auth.AccessTokens(keys, issuer=settings.issuer)
    database = await Database.open(
        settings.database_url.get_secret_value(),
        metadata,
        name="shop-catalog",
        connections=settings.database_connections,
    )
    layers = interceptors.stack(auth.Authenticator(tokens, credential), secret=secret.encode())
    process = server.Server.of(settings, layers, ready=database.ready)
    process.add(catalog_pb2_grpc.add_CatalogServiceServicer_to_server, CatalogService(database))
    process.add(stock_pb2_grpc.add_StockServiceServicer_to_server, StockService(database))
    process.background("token keys", keys.refresh_forever)
    process.background(
        "expiry", tasks.every(sweeper.SECONDS_BETWEEN, lambda: sweeper.free_expired(database))
    )
    process.background("old keys", tasks.every(KEYS_SECONDS, database.forget_old_keys))
    await process.run()
    await database.close()


if __name__ == "__main__":
    server.run(main)
