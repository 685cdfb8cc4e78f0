"""Wires payments together and serves them: `python -m services.payment`."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from services.kit import clients, process, tasks
from services.kit.auth import AccessTokens, Authenticator, Keys, ServiceCredential
from services.kit.db import Database
from services.kit.server import Server
from services.kit.settings import ServiceSettings, SettingsError, listed, setting
from services.payment import event_store
from services.payment.cashier import Cashier
from services.payment.erasure import ErasureService
from services.payment.faults import Faults, Point
from services.payment.follow_ups import FollowUps
from services.payment.handlers import ClosureService, PaymentService
from services.payment.inquiries import Inquiries
from services.payment.orders import Orders
from services.payment.patience import Patience
from services.payment.reconcile import Reconciler
from services.payment.refunds import Refunds
from services.payment.report import Report
from services.payment.sessions import session_check
from services.payment.stripe_gateway import StripeGateway
from services.payment.tables import metadata
from services.payment.walks import Walks
from shop.order.v1 import order_pb2_grpc, settlement_pb2_grpc
from shop.payment.v1 import closure_pb2_grpc, erasure_pb2_grpc, payment_pb2_grpc
from shop.users.v1 import session_pb2_grpc, users_pb2, users_pb2_grpc

CLEANUP_SECONDS = 600.0
# Stripe sends an event for three days.
EVENTS_KEPT = timedelta(days=30)
IDEMPOTENT = {
    "users": ("shop.users.v1.AuthService/GetJwks", "shop.users.v1.SessionService/GetSession"),
    "order": (
        "shop.order.v1.OrderService/GetOrder",
        "shop.order.v1.SettlementService/MarkPaid",
        "shop.order.v1.SettlementService/MarkPaymentFailed",
        "shop.order.v1.SettlementService/MarkRefunded",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    """What payments can be told, beside what every service can be."""

    service: Literal["payment"] = "payment"
    users_address: str = setting(description="where the users service is: host:port, or several")
    order_address: str = setting(description="where orders are: host:port, or several")
    stripe_secret_key: str = setting(
        min_length=1, description="sk_live_… or sk_test_…", secret=True
    )
    stripe_webhook_secret: str = setting(
        min_length=1,
        description="whsec_…; several, separated by commas, while one is rolled",
        secret=True,
    )
    stripe_base_url: str = setting("", description="where Stripe's API is; empty: Stripe itself")
    stripe_mark: str = setting(
        "",
        max_length=64,
        description="marks this shop's payments at Stripe (`shop` in their metadata); empty: made "
        "of the services' secret, which then cannot be replaced",
    )
    return_url: str = setting(
        "", description="where customers come back to after 3-D Secure; empty: the public URL"
    )
    gateway_seconds: float = setting(8.0, gt=0, le=80, description="longest call of Stripe")
    gateway_calls: int = setting(32, ge=1, description="calls of Stripe at once")
    gateway_failures: int = setting(10, ge=1, description="failures after which Stripe gets a rest")
    action_seconds: float = setting(
        600.0, gt=0, description="time that a customer gets for their 3-D Secure step"
    )

    repeat_seconds: float = setting(
        20.0, gt=0, description="time to repeat a call, before a payment Stripe never saw fails"
    )

    fault: Point = setting(Point.NOWHERE, description="where the process kills itself, for tests")

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with values beyond their rules: the name of a field, and why."""
        yield from super().problems()
        if not all(self.webhook_secrets()):
            yield "stripe_webhook_secret", "holds an empty secret"
        first, *others = self.service_secrets()
        if others and not self.stripe_mark:
            why = (
                "while SHOP_SERVICE_SECRET is replaced, payments have to keep their mark at Stripe"
            )
            yield "stripe_mark", f"{why}; under its first secret that was {_mark(first)}"

    def faults(self) -> Faults:
        """Where the process kills itself. Raises SettingsError in production."""
        if self.fault and self.env == "production":
            raise SettingsError("unset SHOP_FAULT: in production no process kills itself")
        return Faults(self.fault)

    def webhook_secrets(self) -> list[str]:
        """The secrets that events may be signed with."""
        return listed(self.stripe_webhook_secret)


@dataclass(frozen=True)
class Parts:
    """What both the service and `shop reconcile` are made of."""

    gateway: StripeGateway
    patience: Patience
    inquiries: Inquiries
    refunds: Refunds
    reconciler: Reconciler
    walks: Walks
    faults: Faults


def assemble(settings: Settings, database: Database) -> Parts:
    """Everything that speaks to Stripe."""
    gateway = StripeGateway(
        settings.stripe_secret_key,
        shop=settings.stripe_mark or _mark(settings.service_secrets()[0]),
        base_url=settings.stripe_base_url,
        seconds=settings.gateway_seconds,
        concurrent=settings.gateway_calls,
        failures=settings.gateway_failures,
    )
    patience = Patience()
    faults = settings.faults()
    inquiries = Inquiries(
        database,
        gateway,
        faults,
        action_seconds=settings.action_seconds,
        repeat_seconds=settings.repeat_seconds,
    )
    refunds = Refunds(database, gateway, patience, faults)
    reconciler = Reconciler(database, inquiries, refunds)
    walks = Walks(database, gateway, reconciler.wake)
    return Parts(gateway, patience, inquiries, refunds, reconciler, walks, faults)


async def reconcile(settings: Settings) -> Report:
    """Walk, and look at everything that is open, once: what `shop reconcile` does."""
    report = Report()
    url = settings.database_url
    database = await Database.open(url, metadata, name="shop reconcile")
    parts = assemble(settings, database)
    try:
        await parts.walks.walk(report, at_once=True)
        await parts.reconciler.settle_open(report)
    finally:
        await parts.gateway.close()
        await database.close()
    return report


def _mark(secret: str) -> str:
    """What marks this shop's PaymentIntents, where several shops share an account at Stripe.

    It is made of the secret that no two shops share, and tells nothing of it.
    """
    return hmac.new(secret.encode(), b"payments at stripe", hashlib.sha256).hexdigest()[:16]


def build(settings: Settings, database: Database) -> Server:
    """The service, ready to start."""
    credential = ServiceCredential(settings.service, *settings.service_secrets())

    def channel(service: str, address: str) -> Any:
        return clients.connect(address, credential, idempotent=IDEMPOTENT[service])

    users = channel("users", settings.users_address)
    key_server = users_pb2_grpc.AuthServiceStub(users)
    keys = Keys(lambda: key_server.GetJwks(users_pb2.GetJwksRequest()))
    auth = Authenticator(
        AccessTokens(keys, issuer=settings.issuer),
        credential,
        check_session=session_check(session_pb2_grpc.SessionServiceStub(users)),
    )
    order = channel("order", settings.order_address)
    orders = Orders(order_pb2_grpc.OrderServiceStub(order))
    parts = assemble(settings, database)
    cashier = Cashier(
        database,
        orders,
        parts.gateway,
        parts.inquiries,
        parts.patience,
        parts.faults,
        return_url=settings.return_url or settings.public_url,
        gateway_seconds=settings.gateway_seconds,
    )
    wake = parts.reconciler.wake
    follow_ups = FollowUps(
        database, settlement_pb2_grpc.SettlementServiceStub(order), wake, parts.faults
    )

    payments = Server.of(settings, auth, ready=database.ready)
    payments.add(
        payment_pb2_grpc.add_PaymentServiceServicer_to_server,
        PaymentService(
            database,
            orders,
            cashier,
            parts.inquiries,
            parts.refunds,
            parts.patience,
            webhook_secrets=settings.webhook_secrets(),
            wake=wake,
        ),
    )
    payments.add(
        closure_pb2_grpc.add_ClosureServiceServicer_to_server,
        ClosureService(database, wake, parts.faults),
    )
    payments.add(erasure_pb2_grpc.add_ErasureServiceServicer_to_server, ErasureService(database))
    forget = partial(tasks.remove_all, database, partial(event_store.forget_old, age=EVENTS_KEPT))
    payments.background("token keys", keys.refresh_forever)
    payments.background("gateway", parts.gateway.keep_open)
    payments.background("outbox", follow_ups.relay().forever)
    payments.background("reconciler", parts.reconciler.forever)
    payments.background("walks", parts.walks.forever)
    payments.background("old keys", tasks.every(CLEANUP_SECONDS, database.forget_old_keys))
    payments.background("old events", tasks.every(CLEANUP_SECONDS, forget))
    return payments


if __name__ == "__main__":
    process.run(Settings, metadata, build)
