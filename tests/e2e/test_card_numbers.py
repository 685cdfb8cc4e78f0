"""A card number in any text that customers or staff send: refused, and nowhere afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor

from cli.topology import ALL_SERVICES
from services.kit.ids import uuid7
from services.kit.methods import READS
from tests.e2e.asks import PUBLIC, ask_grpc
from tests.e2e.orders import a_request, ordered, pay
from tests.refusals import refused
from tests.visitors import Shop, answered

GROUPED = "4000 0566 5566 5556"
WRITTEN = (GROUPED, GROUPED.replace(" ", ""))
DEEPEST = 4
# Goods are the shop's own: a SKU may look like a card number.
METHODS = [
    method
    for method in PUBLIC
    if not method.proto.name.startswith(READS) and not method.service.startswith("shop.catalog.")
]


def texts(message: Descriptor, depth: int = 0) -> Iterator[dict[str, Any]]:
    """For every text field of a message, to some depth, one in which it holds a card number."""
    for field in message.fields:
        kind = field.message_type
        if field.type == field.TYPE_STRING:
            yield {field.name: [GROUPED] if field.is_repeated else GROUPED}
        elif kind is None or kind.full_name.startswith("google.protobuf.") or depth == DEEPEST:
            continue
        else:
            for value in texts(kind, depth + 1):
                yield {field.name: [value] if field.is_repeated else value}


async def nowhere(shop: Shop) -> None:
    """Check that no card number is in a log, a table, a mail, or the sandbox's own file."""
    kept = {"log": shop.up.text()} | {
        path.name: path.read_bytes().decode(errors="replace")
        for folder, pattern in ((shop.up.data, "stripe.sqlite*"), (shop.up.data / "mailbox", "*"))
        for path in folder.glob(pattern)
    }
    tables = await shop.database.fetch(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
        " WHERE schemaname = ANY($1)",
        list(ALL_SERVICES),
    )
    for row in tables:
        text = await shop.database.fetchval(f"SELECT string_agg(t::text, ' ') FROM {row['name']} t")
        kept[row["name"]] = text or ""
    assert len(kept) > 20
    assert [name for name, text in kept.items() if any(card in text for card in WRITTEN)] == []


async def test_in_any_field_of_any_method(shop: Shop) -> None:
    metadata = {"authorization": f"Bearer {shop.admin.token}"}
    asked, let_in = 0, []
    for method in METHODS:
        found = descriptor_pool.Default().FindMethodByName(method.name)
        for body in texts(found.input_type):
            asked += 1
            reason = await ask_grpc(shop.channel, method, body, metadata)
            if reason != "CARD_NUMBER_REFUSED":
                let_in.append((method.name, body, reason))
    assert let_in == []
    assert asked > 100
    await nowhere(shop)


async def test_in_a_purchase(shop: Shop) -> None:
    ada = await shop.sign_up()
    order = await ordered(shop, ada)
    payment = {"order_id": order["id"], "payment_method": GROUPED}
    told = refused(await ada.post("/api/payment/", payment), "CARD_NUMBER_REFUSED")
    assert told.metadata["field"] == "payment_method"
    payment["payment_method"] = f"pm_{WRITTEN[1]}"
    refused(await ada.post("/api/payment", payment), "CARD_NUMBER_REFUSED")
    payment["payment_method"] = "pm_card_visa"
    told = refused(
        await ada.post("/api/payment/", payment, idempotency_key=GROUPED), "CARD_NUMBER_REFUSED"
    )
    assert told.metadata["field"] == "idempotency-key"
    body = await a_request(shop)
    body["shipping_address"] = body["shipping_address"] | {"address_lines": ["1 Row", GROUPED]}
    told = refused(await ada.post("/api/orders/", body), "CARD_NUMBER_REFUSED")
    assert told.metadata["field"] == "shipping_address.address_lines[1]"
    query = f"/api/orders/{order['id']}/cancel/?note={WRITTEN[1]}"
    refused(await ada.post(query, None), "CARD_NUMBER_REFUSED")

    paid = await pay(ada, order)
    refund = {"note": f"onto {GROUPED}"}
    path = f"/api/payment/{paid['id']}/refund/"
    refused(await shop.staff.post(path, refund), "CARD_NUMBER_REFUSED")
    assert answered(await ada.get(f"/api/payment/{paid['id']}/"))["refunds"] == []
    # Not refused, as it is not looked at: only what is kept is.
    answer = await ada.get(f"/api/orders/{uuid7()}/", x=WRITTEN[1])
    assert answer.status_code == 400
    await nowhere(shop)
