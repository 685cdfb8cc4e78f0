"""The order and users services as payments see them: small servers with the real stubs and layers.

They keep what they were told, so that tests can ask whether the customer paid once, and the order
knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import ParseDict

from services.kit import auth, call, errors, interceptors
from services.kit.ids import uuid7
from services.kit.money import from_minor, to_minor
from services.kit.server import Server
from shop.errors.v1 import reason_pb2
from shop.order.v1 import order_pb2, order_pb2_grpc, settlement_pb2, settlement_pb2_grpc
from shop.order.v1.order_pb2 import Order
from shop.order.v1.settlement_pb2 import MarkPaidResponse
from shop.users.v1 import session_pb2, session_pb2_grpc, users_pb2, users_pb2_grpc
from shop.users.v1.users_pb2 import User
from tests import callers


@dataclass
class Sold:
    """An order, and what was told of its money."""

    id: UUID
    user_id: UUID
    total: int
    currency: str
    status: Order.Status.ValueType = Order.AWAITING_PAYMENT
    payment_id: str = ""
    outcomes: dict[str, MarkPaidResponse.Outcome.ValueType] = field(default_factory=dict)
    refunded: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def heed_refunds(self) -> None:
        """Take the status that what was given back of its payment leads to."""
        back = self.refunded.get(self.payment_id, 0)
        if back and self.status != Order.CANCELLED:
            self.status = Order.REFUNDED if back == self.total else Order.PARTIALLY_REFUNDED


class Orders(order_pb2_grpc.OrderServiceServicer, settlement_pb2_grpc.SettlementServiceServicer):
    """The rules of the order service, without stock, carts and mails."""

    def __init__(self) -> None:
        self.sold: dict[str, Sold] = {}
        self.is_away = False

    def sell(self, user_id: UUID, total: int, currency: str = "EUR") -> Sold:
        order = Sold(uuid7(), user_id, total, currency)
        self.sold[str(order.id)] = order
        return order

    async def GetOrder(self, request: order_pb2.GetOrderRequest, context: Any) -> Order:
        order = self._get(request.id)
        if not call.caller().may_see(order.user_id):
            raise errors.not_found("order", request.id)
        return Order(
            id=str(order.id),
            user_id=str(order.user_id),
            status=order.status,
            total=from_minor(order.total, order.currency),
            payment_id=order.payment_id,
        )

    async def MarkPaid(
        self, request: settlement_pb2.MarkPaidRequest, context: Any
    ) -> MarkPaidResponse:
        order = self._get(request.order_id)
        amount = to_minor(request.amount, "amount")
        if (amount, request.amount.currency_code) != (order.total, order.currency):
            raise errors.failed_precondition(reason_pb2.REASON_AMOUNT_MISMATCH, "Another total.")
        back = order.refunded.get(request.payment_id, 0)
        waits = order.status == Order.AWAITING_PAYMENT and back < order.total
        outcome = order.outcomes.setdefault(
            request.payment_id, MarkPaidResponse.ACCEPTED if waits else MarkPaidResponse.REFUND
        )
        if waits:
            order.status, order.payment_id = Order.PAID, request.payment_id
            order.heed_refunds()  # of which it may have heard before
        return MarkPaidResponse(outcome=outcome)

    async def MarkPaymentFailed(
        self, request: settlement_pb2.MarkPaymentFailedRequest, context: Any
    ) -> Empty:
        order = self._get(request.order_id)
        if request.payment_id not in order.failed:
            order.failed.append(request.payment_id)
        return Empty()

    async def MarkRefunded(
        self, request: settlement_pb2.MarkRefundedRequest, context: Any
    ) -> Empty:
        order = self._get(request.order_id)
        told = to_minor(request.refunded_total, "refunded_total")
        order.refunded[request.payment_id] = max(told, order.refunded.get(request.payment_id, 0))
        order.heed_refunds()
        return Empty()

    def _get(self, id: str) -> Sold:
        if self.is_away:
            raise errors.unavailable("away")
        if id not in self.sold:
            raise errors.not_found("order", id)
        return self.sold[id]


class Users(users_pb2_grpc.AuthServiceServicer, session_pb2_grpc.SessionServiceServicer):
    """Publishes the key of `tests.callers`; a session has the id of its user."""

    def __init__(self) -> None:
        self.ended: set[str] = set()
        self.roles: dict[str, User.Role.ValueType] = {}

    async def GetJwks(
        self, request: users_pb2.GetJwksRequest, context: Any
    ) -> users_pb2.JsonWebKeySet:
        return ParseDict(await callers.published_keys(), users_pb2.JsonWebKeySet())

    async def GetSession(
        self, request: session_pb2.GetSessionRequest, context: Any
    ) -> session_pb2.Session:
        if request.id in self.ended:
            raise errors.unauthenticated(reason_pb2.REASON_SESSION_ENDED, "It is over.")
        role = self.roles.get(request.id, User.CUSTOMER)
        return session_pb2.Session(id=request.id, user_id=request.id, role=role)


async def serve(orders: Orders, users: Users) -> Server:
    """Both on one port."""

    async def ready() -> bool:
        return True

    authenticator = auth.Authenticator(
        auth.AccessTokens(auth.Keys(callers.published_keys), issuer=callers.ISSUER),
        auth.ServiceCredential("neighbours", callers.SECRET),
        check_session=_same,
    )
    layers = interceptors.stack(authenticator, secrets=[callers.SECRET.encode()])
    server = Server("127.0.0.1:0", layers, ready=ready, drain_seconds=0.5)
    server.add(order_pb2_grpc.add_OrderServiceServicer_to_server, orders)
    server.add(settlement_pb2_grpc.add_SettlementServiceServicer_to_server, orders)
    server.add(users_pb2_grpc.add_AuthServiceServicer_to_server, users)
    server.add(session_pb2_grpc.add_SessionServiceServicer_to_server, users)
    await server.start()
    return server


async def _same(caller: call.Caller) -> call.Caller:
    return caller
