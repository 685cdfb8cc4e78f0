"""What is left at the payments of a user who was deleted: what was paid, and nothing they wrote."""

from __future__ import annotations

import grpc

from services.kit.ids import uuid7
from shop.payment.v1.erasure_pb2 import EraseUserRequest
from shop.payment.v1.erasure_pb2_grpc import ErasureServiceStub
from tests import callers
from tests.payment.till import Till

URL = "http://127.0.0.1/canary"


async def erase(served: grpc.aio.Channel, user_id: object) -> None:
    request = EraseUserRequest(user_id=str(user_id))
    await ErasureServiceStub(served).EraseUser(request, metadata=callers.service("users"))


async def written(till: Till) -> str:
    """Everything that people wrote."""
    rows = await till.connection.fetch(
        "SELECT return_url, p.idempotency_key, r.note, r.idempotency_key FROM payment.payments p"
        " LEFT JOIN payment.refunds r ON r.payment_id = p.id"
    )
    return str(rows)


async def test_what_was_paid_stays_and_what_was_written_goes(
    till: Till, served: grpc.aio.Channel
) -> None:
    payment = await till.pay(till.sell(), key="canary key", return_url=URL)
    refunded = await till.refund(payment, 10, note="Canary was sorry")
    assert "anary" in await written(till)
    await erase(served, uuid7())
    assert await till.get(payment) == refunded
    for _ in range(2):
        await erase(served, till.customer.id)
        assert "anary" not in await written(till)
    left = await till.get(payment)
    assert [refund.note for refund in left.refunds] == [""]
    refunded.refunds[0].note = ""
    assert left == refunded


async def test_where_a_customer_comes_back_to_is_forgotten_once_they_are_back(till: Till) -> None:
    payment = await till.pay(till.sell(), "authenticationRequired", return_url=URL)
    assert URL in await written(till)
    till.three_d_secure(payment)
    await till.confirm(payment)
    assert URL not in await written(till)
