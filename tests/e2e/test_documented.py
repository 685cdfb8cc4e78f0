"""What the running shop answers is what the OpenAPI document says it answers."""

from __future__ import annotations

import httpx
import pytest

from tests.contract import Method
from tests.documented import complaints, find, resolved, undocumented
from tests.e2e.asks import PUBLIC, REQUESTS, ask_rest
from tests.visitors import Shop, answered

STREAM = "WatchOrder"


@pytest.mark.parametrize("method", PUBLIC, ids=lambda method: method.proto.name)
async def test_answers_and_refusals(shop: Shop, method: Method) -> None:
    owner = await shop.sign_up()
    binding = next(iter(method.bindings()))
    slash = "" if "." in binding[1] else "/"
    fields = await REQUESTS[method.name](shop, owner)
    # Refused first: what is deleted, or signed out, is so only once.
    bad = {"idempotency-key": "k" * 256}
    for who, headers in ((shop.nobody, {}), (owner, bad), (owner, {}), (shop.admin, {})):
        answer = await ask_rest(who, binding, fields, slash=slash, headers=headers)
        if method.proto.name == STREAM and answer.status_code == httpx.codes.OK:
            continue
        assert list(undocumented(answer)) == []


async def test_a_stream_of_events(shop: Shop) -> None:
    operation = find("GET", f"/api/orders/{shop.admin.id}/watch/")
    assert operation is not None
    (media, described), *_ = resolved(operation.described["responses"]["200"])["content"].items()
    order = await REQUESTS["shop.order.v1.OrderService.WatchOrder"](shop, shop.admin)
    binding = ("get", "/api/orders/{id}/watch", "")
    answer = await ask_rest(shop.admin, binding, order, slash="/")
    assert answer.headers["content-type"] == media
    assert complaints(described["x-event"], answered(answer)) == []
