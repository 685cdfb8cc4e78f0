"""Wires the order service together and serves it: `python -m services.order`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import grpc

from services.kit import clients, process, tasks
from services.kit.auth import AccessTokens, Authenticator, Keys, ServiceCredential
from services.kit.db import Database
from services.kit.delivery import MailSettings
from services.kit.server import Server
from services.kit.settings import SettingsError, setting
from services.order import sweeper
from services.order.basket import Basket
from services.order.checkout import Checkout
from services.order.contacts import Contacts
from services.order.erasure_handlers import ErasureService
from services.order.faults import Faults, Point
from services.order.follow_ups import FollowUps
from services.order.handlers import OrderService
from services.order.rate_handlers import RateService
from services.order.reservations import Reservations
from services.order.settlement_handlers import SettlementService
from services.order.sweeper import Sweeper
from services.order.tables import metadata
from services.order.watching import Watchers
from shop.cart.v1 import checkout_pb2_grpc
from shop.catalog.v1 import stock_pb2_grpc
from shop.order.v1 import erasure_pb2_grpc, order_pb2_grpc, rate_pb2_grpc, settlement_pb2_grpc
from shop.payment.v1 import closure_pb2_grpc
from shop.users.v1 import directory_pb2_grpc, users_pb2, users_pb2_grpc

# How often idempotency keys that are too old are removed.
KEYS_SECONDS = 600.0
# Methods that may be called twice. Those of StockService are repeated by the checkout itself.
IDEMPOTENT: dict[str, tuple[str, ...]] = {
    "users": (
        "shop.users.v1.AuthService/GetJwks",
        "shop.users.v1.DirectoryService/BatchGetContacts",
        "shop.users.v1.DirectoryService/GetChangedUsers",
        "shop.users.v1.UserService/GetAddress",
    ),
    "catalog": (),
    "cart": (
        "shop.cart.v1.CheckoutService/GetCheckoutCart",
        "shop.cart.v1.CheckoutService/RemoveOrderedItems",
    ),
    "payment": ("shop.payment.v1.ClosureService/CloseOrder",),
}


@dataclass(frozen=True, kw_only=True)
class Settings(MailSettings):
    """Settings of orders."""

    service: Literal["order"] = "order"
    users_address: str = setting(description="where the users service is: host:port, or several")
    catalog_address: str = setting(description="where the catalogue is")
    cart_address: str = setting(description="where carts are")
    payment_address: str = setting("", description="where payments are; empty: none are taken")
    payment_seconds: float = setting(
        900.0, ge=1, le=86_000, description="how long an order waits for its payment"
    )
    left_seconds: float = setting(
        sweeper.LEFT_AFTER.total_seconds(), gt=0, description="when a PENDING order was left"
    )
    heartbeat_seconds: float = setting(15.0, gt=0, description="between signs of life of a stream")
    watch_seconds: float = setting(
        300.0, gt=0, le=600, description="longest stream; who watches connects again"
    )
    watchers: int = setting(100, ge=0, description="streams that may be open at once")
    fault: Point = setting(Point.NOWHERE, description="where the process kills itself, for tests")

    def faults(self) -> Faults:
        """Where the process kills itself. Raises SettingsError in production."""
        if self.fault and self.env == "production":
            raise SettingsError("unset SHOP_FAULT: in production no process kills itself")
        return Faults(self.fault)


def build(settings: Settings, database: Database) -> Server:
    """The service, ready to start. Raises SettingsError."""
    credential = ServiceCredential(settings.service, *settings.service_secrets())

    def channel(service: str, address: str) -> grpc.aio.Channel:
        return clients.connect(address, credential, idempotent=IDEMPOTENT[service])

    users = channel("users", settings.users_address)
    jwks = users_pb2_grpc.AuthServiceStub(users)
    keys = Keys(lambda: jwks.GetJwks(users_pb2.GetJwksRequest()))
    stock = stock_pb2_grpc.StockServiceStub(channel("catalog", settings.catalog_address))
    carts = checkout_pb2_grpc.CheckoutServiceStub(channel("cart", settings.cart_address))
    closures = None
    if settings.payment_address:
        closures = closure_pb2_grpc.ClosureServiceStub(channel("payment", settings.payment_address))

    faults = settings.faults()
    basket = Basket(
        database,
        users_pb2_grpc.UserServiceStub(users),
        Contacts(directory_pb2_grpc.DirectoryServiceStub(users)),
        carts,
    )
    payment_time = timedelta(seconds=settings.payment_seconds)
    checkout = Checkout(
        database, basket, Reservations(stock), payment_time=payment_time, faults=faults
    )
    follow_ups = FollowUps(
        database,
        basket=basket,
        stock=stock,
        closures=closures,
        delivery=settings.delivery(),
        letterhead=settings.letterhead(),
    )
    watchers = Watchers(
        database,
        most=settings.watchers,
        heartbeat_seconds=settings.heartbeat_seconds,
        longest_seconds=settings.watch_seconds,
    )
    sweeping = Sweeper(database, checkout, left_after=timedelta(seconds=settings.left_seconds))

    auth = Authenticator(AccessTokens(keys, issuer=settings.issuer), credential)
    orders = Server.of(settings, auth, ready=database.ready)
    orders.add(
        order_pb2_grpc.add_OrderServiceServicer_to_server,
        OrderService(database, checkout, watchers, faults),
    )
    orders.add(
        settlement_pb2_grpc.add_SettlementServiceServicer_to_server,
        SettlementService(database, faults),
    )
    orders.add(rate_pb2_grpc.add_RateServiceServicer_to_server, RateService(database))
    orders.add(erasure_pb2_grpc.add_ErasureServiceServicer_to_server, ErasureService(database))
    orders.when_draining(watchers.drain)
    orders.background("token keys", keys.refresh_forever)
    orders.background("outbox", follow_ups.relay().forever)
    orders.background("watchers", watchers.listen)
    orders.background("expiry", tasks.every(sweeper.SECONDS_BETWEEN, sweeping.cancel_expired))
    orders.background("left orders", tasks.every(sweeper.SECONDS_BETWEEN, sweeping.finish_left))
    orders.background("old keys", tasks.every(KEYS_SECONDS, database.forget_old_keys))
    return orders


if __name__ == "__main__":
    process.run(Settings, metadata, build)
