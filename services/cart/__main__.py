"""Wires the cart service together and serves it: `python -m services.cart`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Literal

from services.cart import store
from services.cart.catalogue import Catalogue
from services.cart.handlers import CartService, CheckoutService, ErasureService
from services.cart.tables import metadata
from services.kit import clients, process, tasks
from services.kit.auth import AccessTokens, Authenticator, Keys, ServiceCredential
from services.kit.db import Database
from services.kit.server import Server
from services.kit.settings import ServiceSettings, setting
from shop.cart.v1 import cart_pb2_grpc, checkout_pb2_grpc, erasure_pb2_grpc
from shop.catalog.v1 import stock_pb2_grpc
from shop.users.v1 import users_pb2, users_pb2_grpc

# How often idempotency keys that are too old are removed, and guests' carts.
CLEANUP_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    """What the cart service can be told, beside what every service can be."""

    service: Literal["cart"] = "cart"
    users_address: str = setting(description="where the users service is: host:port, or several")
    catalog_address: str = setting(description="where the catalogue is")
    guest_cart_days: int = setting(30, ge=1, description="guests' carts are kept so long unused")


def build(settings: Settings, database: Database) -> Server:
    """The service, ready to start."""
    credential = ServiceCredential(settings.service, *settings.service_secrets())
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
    keys = Keys(lambda: users.GetJwks(users_pb2.GetJwksRequest()))
    auth = Authenticator(AccessTokens(keys, issuer=settings.issuer), credential)
    carts = Server.of(settings, auth, ready=database.ready)
    catalogue = Catalogue(stock)
    carts.add(cart_pb2_grpc.add_CartServiceServicer_to_server, CartService(database, catalogue))
    carts.add(
        checkout_pb2_grpc.add_CheckoutServiceServicer_to_server,
        CheckoutService(database, catalogue),
    )
    carts.add(erasure_pb2_grpc.add_ErasureServiceServicer_to_server, ErasureService(database))

    kept = timedelta(days=settings.guest_cart_days)
    abandoned = partial(tasks.remove_all, database, partial(store.forget_abandoned, age=kept))
    carts.background("token keys", keys.refresh_forever)
    carts.background("abandoned carts", tasks.every(CLEANUP_SECONDS, abandoned))
    carts.background("old keys", tasks.every(CLEANUP_SECONDS, database.forget_old_keys))
    return carts


if __name__ == "__main__":
    process.run(Settings, metadata, build)
