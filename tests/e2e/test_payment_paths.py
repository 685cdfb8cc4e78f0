"""Paying through the edge, each way there is: declined, asked for 3-D Secure, paid, refunded."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from grpc.aio import AioRpcError

from shop.payment.v1 import payment_pb2, payment_pb2_grpc
from tests.e2e.orders import ordered, until
from tests.refusals import refused
from tests.running import refusal_of
from tests.visitors import Person, Shop, answered

WAYS = ["REST", "REST with a slash", "gRPC"]


async def pay(shop: Shop, way: str, who: Person, order: dict[str, Any], card: str) -> Any:
    """The payment as JSON has it; the reason instead when it is refused."""
    fields = {"order_id": order["id"], "payment_method": f"pm_card_{card}"}
    if way != "gRPC":
        answer = await who.post("/api/payment" + "/" * ("slash" in way), fields)
        if answer.status_code == 200:
            return answered(answer)
        refused(answer, "CARD_DECLINED")
        return "CARD_DECLINED"
    stub = payment_pb2_grpc.PaymentServiceStub(shop.channel)
    metadata = (("authorization", f"Bearer {who.token}"),)
    try:
        payment = await stub.ProcessPayment(
            payment_pb2.ProcessPaymentRequest(**fields), metadata=metadata, timeout=10
        )
    except AioRpcError as error:
        return refusal_of(error).reason
    return MessageToDict(payment, preserving_proto_field_name=True)


@pytest.mark.parametrize("way", WAYS)
async def test_an_order_is_paid_after_a_decline_and_given_back_in_part(
    shop: Shop, way: str
) -> None:
    ada = await shop.sign_up()
    order = await ordered(shop, ada)
    assert await pay(shop, way, ada, order, "chargeDeclined") == "CARD_DECLINED"
    assert (await until(ada, order, "AWAITING_PAYMENT"))["payment_id"] == ""
    payment = await pay(shop, way, ada, order, "visa")
    assert (payment["status"], payment["card_last4"]) == ("SUCCEEDED", "4242")
    assert (await until(ada, order, "PAID"))["payment_id"] == payment["id"]

    path = f"/api/payment/{payment['id']}/refund" + "/" * ("slash" in way)
    refund = {"amount": {"currency_code": "EUR", "units": 3}, "note": "A scratch."}
    refused(await ada.post(path, refund), "ROLE_REQUIRED")
    given = answered(await shop.staff.post(path, refund))
    assert (given["status"], given["refunds"][0]["note"]) == ("PARTIALLY_REFUNDED", "A scratch.")
    now = await until(ada, order, "PARTIALLY_REFUNDED")
    assert now["refunded_total"]["units"] == "3"
    events = answered(await ada.get(f"/api/orders/{order['id']}/events/"))["events"]
    assert events[-1]["note"] == "3.00 EUR given back: A scratch."


@pytest.mark.parametrize("way", WAYS)
async def test_what_asks_for_3_d_secure_says_where_to_go(shop: Shop, way: str) -> None:
    ada = await shop.sign_up()
    order = await ordered(shop, ada)
    payment = await pay(shop, way, ada, order, "threeDSecureRequired")
    assert payment["status"] == "REQUIRES_ACTION"
    assert "/3d_secure/" in payment["redirect_url"]
    seen = answered(await shop.staff.get(f"/api/payment/{payment['id']}/"))
    assert (seen["redirect_url"], seen["client_secret"]) == ("", "")
