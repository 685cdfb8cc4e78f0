"""What follows the deletion of a user elsewhere: rows of the outbox, and what delivers them.

Every delivery may come twice: what is erased stays erased.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from services.kit import outbox
from services.kit.db import Transaction
from services.users.mail_store import OUTBOX
from shop.cart.v1 import erasure_pb2 as cart_pb2, erasure_pb2_grpc as cart_pb2_grpc
from shop.order.v1 import erasure_pb2 as order_pb2, erasure_pb2_grpc as order_pb2_grpc
from shop.payment.v1 import erasure_pb2 as payment_pb2, erasure_pb2_grpc as payment_pb2_grpc

# Topics of the outbox, by the service that is told.
TOPICS = {"order": "erase_orders", "cart": "erase_cart", "payment": "erase_payments"}


async def erase_elsewhere(tx: Transaction, user_id: UUID) -> None:
    """Have everything that other services hold of a user erased once the transaction commits."""
    # Not called user_id, by which mails that are not to be sent any more are found.
    payload = json.dumps({"erased": str(user_id)}).encode()
    for topic in TOPICS.values():
        await OUTBOX.add(tx, topic, payload)


@dataclass(frozen=True)
class FollowUps:
    """Delivers to the services that there are; None for one that this shop does without."""

    orders: order_pb2_grpc.ErasureServiceStub | None
    carts: cart_pb2_grpc.ErasureServiceStub | None
    payments: payment_pb2_grpc.ErasureServiceStub | None

    def topics(self) -> dict[str, outbox.Deliver]:
        """What delivers each topic."""
        told: dict[str, tuple[Any, Callable[..., Any]]] = {
            "order": (self.orders, order_pb2.EraseUserRequest),
            "cart": (self.carts, cart_pb2.EraseUserRequest),
            "payment": (self.payments, payment_pb2.EraseUserRequest),
        }
        return {TOPICS[name]: partial(_erase, *each) for name, each in told.items()}


async def _erase(stub: Any, request: Callable[..., Any], payload: bytes) -> None:
    if stub is not None:
        telling: Awaitable[Any] = stub.EraseUser(request(user_id=json.loads(payload)["erased"]))
        await telling
