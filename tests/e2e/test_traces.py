"""Traces: a whole purchase is one, from the client through the edge and all services into SQL."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.collector import Collector, Kind, Span, collecting, spans_of
from tests.e2e.conftest import opened
from tests.e2e.orders import pay, until
from tests.visitors import PASSWORD, Shop, answered

# What a purchase is made of, as spans of which service, in the order of their beginnings.
EDGE = "edge"
HOPS = {
    (EDGE, "shop.cart.v1.CartService.AddItem"),
    ("cart", "shop.cart.v1.CartService/AddItem"),
    ("catalog", "shop.catalog.v1.StockService/BatchGetVariants"),
    (EDGE, "shop.order.v1.OrderService.CreateOrder"),
    ("order", "shop.order.v1.OrderService/CreateOrder"),
    ("users", "shop.users.v1.DirectoryService/GetChangedUsers"),
    ("cart", "shop.cart.v1.CheckoutService/GetCheckoutCart"),
    ("catalog", "shop.catalog.v1.StockService/ReserveStock"),
    (EDGE, "shop.payment.v1.PaymentService.ProcessPayment"),
    ("payment", "shop.payment.v1.PaymentService/ProcessPayment"),
    ("users", "shop.users.v1.SessionService/GetSession"),
    ("order", "shop.order.v1.OrderService/GetOrder"),
    ("payment", "Stripe"),
    ("payment", "deliver mark_paid"),
    ("order", "shop.order.v1.SettlementService/MarkPaid"),
    ("order", "deliver commit_stock"),
    ("catalog", "shop.catalog.v1.StockService/CommitReservation"),
    ("order", "deliver clear_cart"),
    ("cart", "shop.cart.v1.CheckoutService/RemoveOrderedItems"),
    ("order", "deliver confirm"),
    (EDGE, "shop.catalog.v1.CatalogService.ListProducts"),
}
# What it writes, and where it looks: the first table of each statement.
STATEMENTS = {
    ("cart", "INSERT cart.carts"),
    ("catalog", "SELECT catalog.variants"),
    ("users", "SELECT users.users"),
    ("users", "SELECT users.sessions"),
    ("order", 'INSERT "order".orders'),
    ("catalog", "SELECT catalog.stock"),
    ("order", 'UPDATE "order".orders'),
    ("payment", "INSERT payment.payments"),
    ("payment", "UPDATE payment.payments"),
    ("payment", "INSERT payment.outbox"),
    ("payment", "DELETE payment.outbox"),
    ("order", 'INSERT "order".settlements'),
    ("order", 'INSERT "order".outbox'),
    ("order", 'DELETE "order".outbox'),
    ("cart", "DELETE cart.items"),
}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Where the traces are sent."""
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
async def _shop(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> AsyncIterator[Shop]:
    """A shop of its own: to trace what all others are asked would cost more than its start."""
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    async with opened(tmp_path_factory.mktemp("shop"), **told) as shop:
        yield shop


async def test_a_purchase_is_one_trace_without_a_word_of_the_customers(
    shop: Shop, collector: Collector, tmp_path: Path
) -> None:
    canary = f"canary{secrets.token_hex(8)}"
    trace_id, root = secrets.token_hex(16), secrets.token_hex(8)
    headers = {"traceparent": f"00-{trace_id}-{root}-01", "user-agent": canary}
    product = await shop.new_product(name=f"A lamp {canary}", stock=7)
    ada = await shop.sign_up()
    before = dict(ada.http.headers)
    ada.http.headers.update(headers)
    try:
        item = {"product_id": product["id"], "quantity": 2}
        answered(await ada.post("/api/cart/items/", item))
        postal = {"region_code": "GB", "address_lines": [canary], "recipients": [canary]}
        body = {"shipping_address": postal, "note": canary}
        created = await ada.post("/api/orders/", body)
        order = answered(created, 201)
        await pay(ada, order)
        await until(ada, order, "PAID")
        answered(await ada.get("/api/products/", q=canary))
    finally:
        ada.http.headers = before

    spans = await whole(collector, trace_id)
    calls = [span for span in spans if "db.query.text" not in span.told]
    assert HOPS - {(span.service, span.name) for span in calls} == set()
    assert STATEMENTS - {(span.service, span.name) for span in spans} == set()

    # Everything hangs together, up to what the client says it is doing.
    known = {span.id: span for span in spans}
    assert {span.parent for span in spans} - known.keys() == {root}
    assert {span.service for span in spans if span.parent == root} == {EDGE}
    for span in spans:
        if span.kind == Kind.SPAN_KIND_SERVER and span.service != EDGE:
            caller = known[span.parent]
            assert caller.service != span.service
            assert caller.name.replace("/", ".") == span.name.replace("/", ".")

    # The same in a file, as tools for traces read it.
    file = tmp_path / "purchase.json"
    collector.export(trace_id, file)
    written = list(spans_of(json.loads(file.read_text())))
    assert {span["spanId"] for span in written} == known.keys()
    assert {span["traceId"] for span in written} == {trace_id}
    texts = [
        attribute["value"]["stringValue"]
        for span in written
        for attribute in span.get("attributes", [])
        if attribute["key"] == "db.query.text"
    ]
    assert sorted(texts) == sorted(
        span.told["db.query.text"] for span in spans if "db.query.text" in span.told
    )
    assert canary not in file.read_text()

    # Each transaction begins and ends in it.
    for service in ("cart", "catalog", "order", "payment"):
        own = [span.name for span in spans if span.service == service]
        assert own.count("BEGIN") == own.count("COMMIT") > 0

    # The request id leads from an answer to its spans, and the trace from a log line to its trace.
    told = [
        span
        for span in spans
        if span.told.get("shop.request_id") == created.headers["x-request-id"]
    ]
    assert {span.service for span in told} == {"order", "users", "cart", "catalog"}
    lines = [line for line in shop.up.events("order") if line.get("trace_id") == trace_id]
    assert {"/shop.order.v1.OrderService/CreateOrder"} <= {line.get("method") for line in lines}

    sent = b"".join(collector.bodies)
    secret = [canary, PASSWORD, ada.email, ada.token, ada.refresh_token]
    assert [word for word in secret if word.encode() in sent] == []


async def whole(collector: Collector, trace_id: str) -> list[Span]:
    """The spans of a purchase as soon as all have been sent; what there is after a minute."""
    until = time.monotonic() + 60
    while True:
        spans = collector.spans(trace_id)
        names = {(span.service, span.name) for span in spans}
        if names >= HOPS | STATEMENTS or time.monotonic() > until:
            await asyncio.sleep(2)  # each process sends for itself
            return collector.spans(trace_id)
        await asyncio.sleep(0.2)
