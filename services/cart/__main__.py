"""Wires the cart service together and serves it: `python -m services.cart`."""

from __future__ import annotations

import sys
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from google.protobuf.json_format import MessageToDict
from pydantic import Field

from services.cart import cleanup
from services.cart.catalogue import Catalogue
from services.cart.handlers import CartService, CheckoutService
from services.cart.tables import metadata
from services.kit import clients, interceptors, server, tasks
from services.kit.auth import AccessTokens, Authenticator, Keys, ServiceCredential
from services.kit.db import Database
from services.kit.server import Server
from services.kit.settings import ServiceSettings, SettingsError
from shop.cart.v1 import cart_pb2_grpc, checkout_pb2_grpc
from shop.catalog.v1 import stock_pb2_grpc
from shop.users.v1 import users_pb2, users_pb2_grpc

CLEANUP_SECONDS = 60.0


class Settings(ServiceSettings):
    """What the cart service can be told, beside what every service can be."""

    service: Literal["cart"] = "cart"
    users_address: str = Field(description="where the users service is: host:port, or several")
    catalog_address: str = Field(description="where the catalogue is: host:port, or several")
    guest_cart_days: int = Field(30, ge=1, description="guests' carts are kept so long unused")


def build(settings: Settings, database: Database) -> Server:
    """The service, ready to start."""
    secret = settings.service_secret.get_secret_value()
    credential = ServiceCredential(settings.service, secret)
    users = users_pb2_grpc.AuthServiceStub(
        clients.connect(
            settings.users_address, credential, idempotent=["shop.users.v1.AuthService/GetJwks"]
        )
    )
    stock = stock_pb2_grpc.StockServiceStub(
        clients.connect(
            settings.catalog_address,
            credential,
            idempotent=["shop.catalog.v1.StockService/BatchGetVariants"],
        )
    )

    async def published_keys() -> dict[str, Any]:
        return MessageToDict(await users.GetJwks(users_pb2.GetJwksRequest()))

    keys = Keys(published_keys)
    auth = Authenticator(AccessTokens(keys, issuer=settings.issuer), credential)
    layers = interceptors.stack(auth, secret=secret.encode())
    carts = Server.of(settings, layers, ready=database.ready)
    catalogue = Catalogue(stock)
    carts.add(cart_pb2_grpc.add_CartServiceServicer_to_server, CartService(database, catalogue))
    carts.add(
        checkout_pb2_grpc.add_CheckoutServiceServicer_to_server,
        CheckoutService(database, catalogue),
    )
    kept = timedelta(days=settings.guest_cart_days)
    carts.background("token keys", keys.refresh_forever)
    carts.background(
        "cleanup", tasks.every(CLEANUP_SECONDS, partial(cleanup.clean, database, kept))
    )
    return carts


async def main() -> None:
    """Serve until SIGTERM."""
    settings = Settings.load()
    server.start_process(settings)
    database = await Database.open(
        settings.database_url.get_secret_value(),
        metadata,
        name="shop cart",
        connections=settings.database_connections,
    )
    try:
        await build(settings, database).run()
    finally:
        await database.close()


if __name__ == "__main__":
    try:
        server.run(main)
    except SettingsError as error:
        sys.exit(str(error))
